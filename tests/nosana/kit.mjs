// Drives the double with Nosana's own client: node kit.mjs URL KEY BODY CASES, each of the last two JSON.
// Prints {seen: [...], judged: [...]}: what became of the deployment, and which cases its validator takes.

import { createNosanaClient, NosanaNetwork, validateJobDefinition } from "@nosana/kit";

const [url, apiKey, body, cases] = process.argv.slice(2);
const client = createNosanaClient(NosanaNetwork.MAINNET, { api: { apiKey, backend_url: url } });
const deployments = client.api.deployments;
const seen = [];

async function until(id, status) {
  for (let turn = 0; turn < 200; turn++) {
    const found = await deployments.get(id);
    if (found.status === status) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`${id} never was ${status}`);
}

const made = await deployments.create(JSON.parse(body));
seen.push(made.status);
await made.start();
const running = await until(made.id, "RUNNING");
seen.push(running.status);
const { jobs } = await running.getJobs();
seen.push(jobs.length ? jobs[0].state : "none yet");
await running.stop();
const stopped = await until(made.id, "STOPPED");
seen.push(stopped.status);
await stopped.archive();
seen.push((await deployments.get(made.id)).status);
const refused = await deployments.create({ ...JSON.parse(body), replicas: 0 }).then(() => "taken", () => "refused");
seen.push(refused);
const judged = JSON.parse(cases).map((definition) => validateJobDefinition(definition).success);
console.log(JSON.stringify({ seen, judged }));
process.exit(0);
