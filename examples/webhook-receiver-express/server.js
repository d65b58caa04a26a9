// Receives Carillon's webhooks: verifies each, drops what came before, answers at once and works afterwards.

import express from "express";
import { Webhook } from "standardwebhooks";

const BODY_LIMIT = "5mb";
// Ids of webhooks that are known again, and events that wait for their turn.
const REMEMBERED = 10_000;
const WAITING = 1_000;

const handlers = {
  "job.completed": async (job) => console.log(`${job.id} ${job.jobname} completed:`, JSON.stringify(job.result)),
  "job.failed": async (job) => console.log(`${job.id} ${job.jobname} failed:`, job.error),
  "job.progress": async (job) => console.log(`${job.id} ${job.jobname} is at ${job.progress.percentage} %`),
};

/** What was accepted and waits for its turn, and the ids of all that was accepted lately. */
class Inbox {
  #ids = new Set();
  #waiting = [];
  #isWorking = false;

  get isFull() {
    return this.#waiting.length >= WAITING;
  }

  has(id) {
    return this.#ids.has(id);
  }

  accept(id, event) {
    this.#waiting.push(event);
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED) this.#ids.delete(this.#ids.values().next().value);
    if (!this.#isWorking) this.#work();
  }

  async #work() {
    this.#isWorking = true;
    while (this.#waiting.length > 0) {
      const event = this.#waiting.shift();
      try {
        // There will be types that this receiver does not know yet: they are accepted and left.
        if (Object.hasOwn(handlers, event.type)) await handlers[event.type](event.data);
      } catch (error) {
        console.error(`${event.type} could not be dealt with:`, error);
      }
    }
    this.#isWorking = false;
  }
}

const webhook = new Webhook(process.env.WEBHOOK_SECRET ?? "");
const inbox = new Inbox();
const app = express();

// The bytes as they came: JSON that was parsed and written anew has another signature.
app.post("/webhooks", express.raw({ type: () => true, limit: BODY_LIMIT }), (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body ?? "", request.headers);
  } catch (error) {
    console.warn(`refused: ${error.message}`);
    return response.status(401).end();
  }
  const id = request.headers["webhook-id"];
  if (inbox.has(id)) {
    console.log(`${id} came again`);
  } else if (inbox.isFull) {
    // It is sent again later.
    return response.status(503).set("Retry-After", "10").end();
  } else {
    inbox.accept(id, event);
  }
  return response.status(204).end();
});

const port = Number(process.env.PORT ?? 8000);
app.listen(port, "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`Listening at http://127.0.0.1:${port}/webhooks`);
});
