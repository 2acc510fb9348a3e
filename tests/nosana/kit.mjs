// Drives the double with Nosana's own client: node kit.mjs URL KEY BODY CASES, each of the last two JSON.
// Prints {seen: {...}, judged: [...]}: what it saw of the deployment, and which cases its validator takes.

import { createNosanaClient, NosanaNetwork, validateJobDefinition } from "@nosana/kit";

const [url, apiKey, body, cases] = process.argv.slice(2);
const client = createNosanaClient(NosanaNetwork.MAINNET, { api: { apiKey, backend_url: url } });
const deployments = client.api.deployments;

async function until(what) {
  for (let turn = 0; turn < 200; turn++) {
    const found = await what();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`in vain: ${what}`);
}

const inState = (id, status) =>
  until(async () => {
    const found = await deployments.get(id);
    return found.status === status && found;
  });

const wanted = JSON.parse(body);
const made = await deployments.create(wanted);
const early = await made.archive().then(() => "taken", () => "refused");
await made.start();
const running = await inState(made.id, "RUNNING");
const job = await until(async () => (await running.getJobs()).jobs.find((one) => one.state === "RUNNING"));
const page = await running.getJob(job.job);
const listed = await deployments.list({ name: wanted.name, limit: 10 });
await running.stop();
const stopped = await inState(made.id, "STOPPED");
await stopped.archive();
const seen = {
  made: made.id,
  early,
  job: job.job,
  phase: page.state,
  confidential: page.confidential,
  listed: listed.deployments.map((one) => one.id),
  total: listed.total_items,
  last: (await deployments.get(made.id)).status,
  wrong: await deployments.create({ ...wanted, replicas: 0 }).then(() => "taken", (error) => error.message),
  credits: (await client.api.credits.balance()).assignedCredits,
  market: (await client.api.markets.get(wanted.market)).slug,
  markets: (await client.api.markets.list()).length,
};
const judged = JSON.parse(cases).map((definition) => validateJobDefinition(definition).success);
console.log(JSON.stringify({ seen, judged }));
process.exit(0);
