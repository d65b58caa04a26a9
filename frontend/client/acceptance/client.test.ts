import {
  JobCancelledError,
  JobFailedError,
  type CarillonClient,
  type ClientEvents,
  type QueueUpdate,
} from "@carillon/client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { credentials, newClient, until, url, Wire } from "./world.js";

const NUMBERED = [
  "job:created", "job:started", "job:progress", "job:completed", "job:failed", "job:retrying", "job:cancelled",
  "job:status", "notification", "notification:read", "notification:unread", "notification:deleted",
] as const satisfies readonly (keyof ClientEvents)[];

/** The numbers a client hears, in order. */
function numbers(client: CarillonClient): string[] {
  const heard: string[] = [];
  for (const name of NUMBERED) client.on(name, ({ eventId }) => heard.push(eventId));
  return heard;
}

function assertWithoutHoles(heard: readonly string[]): void {
  const [epochs, seqs] = [0, 1].map((part) => heard.map((id) => Number(id.split("-")[part])));
  expect(new Set(epochs).size).toBe(1);
  expect(seqs).toEqual(seqs!.map((_, index) => seqs![0]! + index));
}

let client: CarillonClient;

beforeEach(async () => {
  client = newClient();
  client.connect();
  await until(() => client.isConnected, "the connection");
});

afterEach(() => client.close());

describe("a job", () => {
  test("is submitted, followed and waited for", async () => {
    const job = await client.submitJob("demo-steps", { steps: 5, sleepMs: 80 }, { priority: 90, tags: ["js"] });
    expect(job).toMatchObject({ type: "demo-steps", priority: 90, tags: ["js"] });
    const percentages: number[] = [];
    const onProgress = ({ percentage }: { percentage: number }) => percentages.push(percentage);
    expect(await client.waitForJob(job.id, { onProgress, timeout: 20_000 })).toEqual({ steps: 5, attempt: 1 });
    expect(percentages).toEqual([...percentages].sort((a, b) => a - b));
    expect(percentages.length).toBeGreaterThan(1);
    const listed = await client.listJobs({ tag: "js" });
    expect(listed.data.map(({ id }) => id)).toContain(job.id);
    expect(await client.getJob(job.id)).toMatchObject({ status: "completed", progress: { percentage: 100 } });
  });

  test("that ended before anybody waited is known to have ended", async () => {
    const { id } = await client.submitJob("demo-steps", { steps: 1 });
    const first = await client.waitForJob(id, { timeout: 20_000 });
    expect(await client.waitForJob(id, { timeout: 20_000 })).toEqual(first);
  });

  test("fails with its own error, and runs again when it is told to", async () => {
    const { id } = await client.submitJob("demo-steps", { steps: 3, failAt: 2, permanent: true });
    const failure = await client.waitForJob(id, { timeout: 20_000 }).catch((each: unknown) => each);
    expect(failure).toBeInstanceOf(JobFailedError);
    expect(failure).toMatchObject({ code: "demo_failure", message: "Failed for good at step 2" });
    expect((await client.retryJob(id)).status).not.toBe("failed");
    await expect(client.waitForJob(id, { timeout: 20_000 })).rejects.toBeInstanceOf(JobFailedError);
    expect((await client.getJob(id)).attempt).toBe(2);
  });

  test("is cancelled while it runs, with a reason", async () => {
    const { id } = await client.submitJob("demo-wait", { seconds: 60 });
    const wait = client.waitForJob(id, { timeout: 20_000 }).catch((each: unknown) => each);
    const statuses: string[] = [];
    const stop = client.subscribeJob(id, { onChange: ({ status }) => statuses.push(status) });
    await until(() => statuses.includes("active"), "the start");
    await client.cancelJob(id, "No longer needed");
    const end = await wait;
    expect(end).toBeInstanceOf(JobCancelledError);
    expect(end).toMatchObject({ reason: "No longer needed" });
    stop();
  });

  test("is one job however often it is submitted with one key", async () => {
    const extras = { idempotencyKey: `key-${Date.now()}` };
    const [first, second] = [
      await client.submitJob("demo-steps", { steps: 1 }, {}, extras),
      await client.submitJob("demo-steps", { steps: 1 }, {}, extras),
    ];
    expect(second.id).toBe(first.id);
    await client.waitForJob(first.id, { timeout: 20_000 });
  });

  test("is waited for without a socket", async () => {
    const offline = newClient();
    const { id } = await offline.submitJob("demo-steps", { steps: 2 });
    expect(await offline.waitForJob(id, { timeout: 20_000 })).toEqual({ steps: 2, attempt: 1 });
  });

  test("that nobody knows, or that is wrong, is refused in the platform's words", async () => {
    const unknown = "01890000-0000-7000-8000-000000000000";
    await expect(client.getJob(unknown)).rejects.toMatchObject({ code: "job_not_found", status: 404 });
    await expect(client.waitForJob(unknown)).rejects.toMatchObject({ code: "job_not_found", status: 404 });
    await expect(client.submitJob("demo-steps", {})).rejects.toMatchObject({
      code: "validation_failed",
      status: 422,
      errors: { "payload.steps": [expect.any(String)] },
    });
  });
});

test("more jobs than the socket may ask for at once are all waited for", async () => {
  const jobs = await client.submitJobs(Array.from({ length: 200 }, () => ({ type: "demo-steps", payload: { steps: 1 } })));
  const results = await Promise.all(jobs.map(({ id }) => client.waitForJob(id, { timeout: 40_000 })));
  expect(results).toEqual(jobs.map(() => ({ steps: 1, attempt: 1 })));
}, 60_000);

test("a client whose connection is killed again and again hears each event once and in order", async () => {
  const wire = await new Wire().start();
  const shaky = newClient({ url: wire.url });
  try {
    const heard = numbers(shaky);
    const gaps: unknown[] = [];
    const counts: number[] = [];
    shaky.on("gap", (gap) => gaps.push(gap));
    shaky.on("resumed", (outcome) => outcome.recovered && counts.push(outcome.count));
    shaky.connect();
    await until(() => shaky.isConnected, "the connection");
    const jobs = await client.submitJobs(
      Array.from({ length: 4 }, () => ({ type: "demo-steps", payload: { steps: 12, sleepMs: 100 } })),
    );
    const results = Promise.all(jobs.map(({ id }) => shaky.waitForJob(id, { timeout: 40_000 })));
    for (let cuts = 1; cuts <= 3; cuts++) {
      const before = heard.length;
      await until(() => heard.length > before + 3, "some events");
      wire.isDown = true;
      wire.cut();
      await until(() => !shaky.isConnected, "the loss");
      await new Promise((resolve) => setTimeout(resolve, 300));
      wire.isDown = false;
      await until(() => shaky.isConnected && counts.length === cuts, "the end of the replay");
    }
    expect(await results).toEqual(jobs.map(() => ({ steps: 12, attempt: 1 })));
    await until(() => heard.length, "events");
    assertWithoutHoles(heard);
    expect(gaps).toEqual([]);
    expect(Math.max(...counts)).toBeGreaterThan(0);
  } finally {
    shaky.close();
    wire.stop();
  }
}, 60_000);

test("a token that the platform takes no more is replaced", async () => {
  const session = await newClient().login(credentials.username, credentials.password);
  const reasons: string[] = [];
  const forgetful = newClient({
    getToken: (reason) => {
      reasons.push(reason);
      return reason === "start" ? "forged" : session.accessToken;
    },
  });
  forgetful.connect();
  await until(() => forgetful.isConnected, "the connection");
  await forgetful.listJobs();
  expect(reasons).toEqual(["start", "renew"]);
  forgetful.close();
});

test("somebody whom the platform does not know is refused", async () => {
  const stranger = newClient({ url, credentials: { username: "nobody", password: "wrong password" } });
  const codes: string[] = [];
  stranger.on("refused", ({ code }) => codes.push(code));
  stranger.connect();
  await until(() => codes.length, "the refusal");
  expect(codes).toEqual(["invalid_credentials"]);
  expect(stranger.state).toBe("refused");
  stranger.close();
});

test("the queue tells of a job from its place in it to its result", async () => {
  const updates: QueueUpdate[] = [];
  const off = client.queue.on("queue-update", (update) => updates.push(update));
  await until(() => client.queue.isConnected, "/queue");
  const { id } = await client.submitJob("demo-steps", { steps: 3, sleepMs: 80 });
  const about = () => updates.filter(({ jobId }) => jobId === id);
  await until(() => about().some(({ eventType }) => eventType === "job-completed"), "the end of the job");
  off();
  expect([...new Set(about().map(({ eventType }) => eventType))]).toEqual([
    "job-queued", "job-started", "job-progress", "job-completed",
  ]);
  expect(about().at(-1)).toMatchObject({ progress: 100, result: { steps: 3, attempt: 1 }, jobType: "demo-steps" });
});

test("two devices see the same inbox and the same count", async () => {
  const other = newClient();
  other.connect();
  const devices = [client, other];
  const counts: (number | null)[][] = [[], []];
  const changes: string[] = [];
  devices.forEach(({ notifications }, index) => {
    notifications.watchUnread(() => counts[index]!.push(notifications.unread));
  });
  other.notifications.on("notification", ({ type }) => changes.push(type));
  other.notifications.on("notification:read", ({ id }) => changes.push(`read ${id}`));
  other.notifications.on("notification:deleted", ({ id }) => changes.push(`deleted ${id}`));
  await until(() => devices.every(({ notifications }) => notifications.isConnected), "both inboxes");
  await client.notifications.markAllRead();
  await until(() => devices.every(({ notifications }) => notifications.unread === 0), "an inbox that was read");
  const { id } = await client.submitJob("demo-steps", { steps: 1 });
  await client.waitForJob(id, { timeout: 20_000 });
  await until(() => changes.includes("job_completed"), "the notification");
  await until(() => devices.every(({ notifications }) => notifications.unread === 2), "the count on both");
  const [newest] = (await client.notifications.list({ unread: true })).data;
  expect(newest).toMatchObject({ type: "job_completed", read: false });
  await client.notifications.markRead(newest!.id);
  await until(() => changes.includes(`read ${newest!.id}`), "the reading on the other device");
  await until(() => devices.every(({ notifications }) => notifications.unread === 1), "the count on both");
  await client.notifications.remove(newest!.id);
  await until(() => changes.includes(`deleted ${newest!.id}`), "the deletion on the other device");
  expect(await other.notifications.unreadCount()).toBe(1);
  other.close();
});
