// Undo and redo. Pure: states are immutable values.

const MOST = 200;
const SAME = 1_500; // milliseconds; changes of one field within it are one step

export class History {
  #past = [];
  #future = [];
  #last = { key: "", at: 0 };

  constructor(state) {
    this.state = state;
  }

  /** Adds a state. `label` says what was done; changes with the same `key` in quick succession are one step. */
  push(state, label, key = "", at = Date.now()) {
    const continues = key && key === this.#last.key && at - this.#last.at < SAME;
    if (!continues) this.#past = [...this.#past, { state: this.state, label }].slice(-MOST);
    this.#future = [];
    this.#last = { key, at };
    this.state = state;
  }

  /** Puts an equal state in place of the newest one; this is no step. */
  replace(state) {
    this.state = state;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Goes back; returns what was undone, or null. */
  undo() {
    return this.#move(this.#past, this.#future);
  }

  redo() {
    return this.#move(this.#future, this.#past);
  }

  #move(from, to) {
    const step = from.pop();
    if (!step) return null;
    to.push({ state: this.state, label: step.label });
    this.state = step.state;
    this.#last = { key: "", at: 0 };
    return step.label;
  }
}
