import { describe, expect, test, vi } from "vitest";

import { CarillonApiError, JobCancelledError, JobFailedError, JobWaitTimeoutError } from "../src/index.js";
import { error, until } from "./platform.js";
import { given } from "./setup.js";

describe("waitForJob", () => {
  test("resolves with the result, after the progress", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const steps: number[] = [];
    const result = client.waitForJob("a", { onProgress: ({ current }) => steps.push(current) });
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.progress("a", 1, 2);
    platform.progress("a", 2, 2);
    platform.complete("a", { files: 7 });
    expect(await result).toEqual({ files: 7 });
    expect(steps).toEqual([1, 2]);
    await until(() => platform.called("unsubscribe:job").length, "the end of the subscription");
  });

  test("hears the progress that comes in one go with the acknowledgement", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    platform.onSubscribe = () => {
      platform.onSubscribe = undefined;
      queueMicrotask(() => {
        platform.progress("a", 1, 2);
        platform.progress("a", 2, 2);
        platform.complete("a", "done");
      });
      return undefined;
    };
    const steps: number[] = [];
    expect(await client.waitForJob("a", { onProgress: ({ current }) => steps.push(current) })).toBe("done");
    expect(steps).toEqual([1, 2]);
  });

  test("shows the progress that overtakes the acknowledgement", async () => {
    const { platform } = given;
    const client = await given.connected();
    const job = platform.job("a", { progress: { current: 1, total: 4, percentage: 25, message: "" } });
    platform.onSubscribe = () => {
      platform.onSubscribe = undefined;
      platform.progress("a", 2, 4);
      return { ok: true, job };
    };
    const steps: number[] = [];
    client.subscribeJob("a", { onProgress: ({ current }) => steps.push(current) });
    await until(() => steps.length, "the progress");
    expect(steps).toEqual([2]);
  });

  test("does not miss an end that came before the subscription", async () => {
    given.platform.job("a", { status: "completed", result: 42 });
    const client = await given.connected();
    expect(await client.waitForJob("a")).toBe(42);
  });

  test("does not miss an end that overtakes the acknowledgement", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    platform.onSubscribe = (jobId) => {
      platform.onSubscribe = undefined;
      const before = platform.jobs.get(jobId)!;
      platform.complete(jobId, "done");
      return { ok: true, job: before };
    };
    expect(await client.waitForJob("a")).toBe("done");
  });

  test("rejects with what a failed job says", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const wait = client.waitForJob("a").catch((each: unknown) => each);
    await until(() => platform.called("subscribe:job").length, "the subscription");
    const failed = { attempt: 3, maxAttempts: 3, canRetry: true };
    platform.say("job:failed", { jobId: "a", jobName: "x", error: "No disk", errorCode: "disk_full", ...failed });
    const failure = await wait;
    expect(failure).toBeInstanceOf(JobFailedError);
    expect(failure).toMatchObject({ code: "disk_full", message: "No disk", job: { id: "a", attempt: 3 } });
  });

  test("rejects with the reason of a cancelled job", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const wait = client.waitForJob("a").catch((each: unknown) => each);
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.say("job:cancelled", { jobId: "a", jobName: "x", reason: "No longer needed" });
    const failure = await wait;
    expect(failure).toBeInstanceOf(JobCancelledError);
    expect(failure).toMatchObject({ code: "job_cancelled", reason: "No longer needed" });
  });

  test("outlives a lost connection, even when nobody can tell what was missed", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const wait = client.waitForJob("a");
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.isDown = true;
    platform.cut();
    await until(() => !client.isConnected, "the loss");
    platform.complete("a", "while away");
    platform.lose();
    platform.isDown = false;
    expect(await wait).toBe("while away");
  });

  test("polls where there is no socket", async () => {
    const { platform } = given;
    platform.job("a");
    const client = given.client();
    const wait = client.waitForJob("a");
    await until(() => platform.asked("GET", "/api/jobs/a"), "the first poll");
    platform.job("a", { status: "completed", result: "polled" });
    expect(await wait).toBe("polled");
    expect(platform.connected()).toBe(0);
  });

  test("goes on polling while the platform is away", async () => {
    const { platform } = given;
    platform.job("a", { status: "completed", result: "at last" });
    platform.isDown = true;
    const wait = given.client().waitForJob("a");
    await new Promise((resolve) => setTimeout(resolve, 50));
    platform.isDown = false;
    expect(await wait).toBe("at last");
  });

  test("rejects when its time is over, and leaves the job alone", async () => {
    const { platform } = given;
    platform.job("a");
    const client = await given.connected();
    const failure = await client.waitForJob("a", { timeout: 60 }).catch((each: unknown) => each);
    expect(failure).toBeInstanceOf(JobWaitTimeoutError);
    expect(failure).toMatchObject({ code: "wait_timeout", job: { id: "a", status: "active" } });
    await until(() => platform.called("unsubscribe:job").length, "the end of the subscription");
    expect(platform.asked("DELETE", "/api/jobs")).toBe(0);
  });

  test("rejects with the reason of its signal", async () => {
    given.platform.job("a");
    const client = await given.connected();
    const controller = new AbortController();
    const wait = client.waitForJob("a", { signal: controller.signal });
    controller.abort(new Error("the user left"));
    await expect(wait).rejects.toThrow("the user left");
    await expect(client.waitForJob("a", { signal: controller.signal })).rejects.toThrow("the user left");
  });

  test("rejects for a job that nobody knows", async () => {
    const client = await given.connected();
    const failure = await client.waitForJob("nowhere").catch((each: unknown) => each);
    expect(failure).toBeInstanceOf(CarillonApiError);
    expect(failure).toMatchObject({ code: "job_not_found", status: 404 });
  });

  test("reads a result that was too large to be sent along", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const wait = client.waitForJob("a");
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.job("a", { status: "completed", result: "large" });
    platform.say("job:completed", { jobId: "a", jobName: "x", result: null, resultTruncated: true });
    expect(await wait).toBe("large");
  });

  test("reads the result of a sensitive job over REST", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a", { sensitive: true });
    platform.onSubscribe = (jobId) => ({ ok: true, job: { ...platform.jobs.get(jobId)!, result: null } });
    const wait = client.waitForJob("a");
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.job("a", { status: "completed", result: "secret" });
    platform.say("job:completed", { jobId: "a", jobName: "x", result: null });
    expect(await wait).toBe("secret");
  });

  test("waits through retries", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const wait = client.waitForJob("a");
    await until(() => platform.called("subscribe:job").length, "the subscription");
    const soon = { attempt: 1, maxAttempts: 3, nextAttemptAt: null };
    platform.say("job:retrying", { jobId: "a", jobName: "x", error: "again", ...soon });
    platform.say("job:status", { jobId: "a", status: "retrying", progress: null });
    platform.say("job:started", platform.job("a", { attempt: 2 }));
    platform.complete("a", "second");
    expect(await wait).toBe("second");
  });
});

describe("subscribeJob", () => {
  test("shares one subscription between all who follow a job", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const heard: string[] = [];
    const stops = ["x", "y", "z"].map((who) =>
      client.subscribeJob("a", { onProgress: ({ current }) => heard.push(`${who}${current}`) }),
    );
    await until(() => platform.called("subscribe:job").length, "the subscription");
    platform.progress("a", 1, 2);
    await until(() => heard.length === 3, "the first step");
    stops.pop()!();
    platform.progress("a", 2, 2);
    await until(() => heard.length === 5, "the second step");
    expect(heard).toEqual(["x1", "y1", "z1", "x2", "y2"]);
    expect(platform.called("subscribe:job")).toEqual(["a"]);
    expect(platform.called("unsubscribe:job")).toEqual([]);
    stops.forEach((stop) => stop());
    await until(() => platform.called("unsubscribe:job").length === 1, "the end of the subscription");
  });

  test("is made anew at each connection", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const statuses: string[] = [];
    client.subscribeJob("a", { onChange: ({ status }) => statuses.push(status) });
    await until(() => statuses.length, "the job");
    platform.cut();
    await until(() => platform.called("subscribe:job").length > 1, "the second subscription");
  });

  test("reads meanwhile when the platform is busy, and is tried again", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    let refusals = 0;
    platform.onSubscribe = () => (++refusals > 1 ? undefined : { ok: false, error: error("rate_limited", 429) });
    const changes: unknown[] = [];
    const stop = client.subscribeJob("a", { onChange: (job) => changes.push(job) });
    await until(() => changes.length, "the job");
    expect(platform.asked("GET", "/api/jobs/a")).toBe(1);
    await until(() => platform.called("subscribe:job").length === 2, "the second try");
    await until(() => changes.length > 1, "its answer");
    stop();
    await until(() => platform.called("unsubscribe:job").length, "the end of the subscription");
  });

  test("follows somebody else's job by its room alone", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a", { status: "queued" });
    const heard: string[] = [];
    client.subscribeJob("a", {
      onChange: ({ status }) => heard.push(status),
      onFailed: ({ code }) => heard.push(code),
    });
    await until(() => heard.length, "the job");
    platform.whisper("job:a:progress", { jobId: "a", progress: 50, details: { current: 1, total: 2, percentage: 50 } });
    await until(() => heard.length === 2, "the progress");
    platform.job("a", { status: "failed", error: { code: "disk_full", message: "No disk", retryable: false } });
    platform.whisper("job:a:failed", { jobId: "a", error: "No disk" });
    await until(() => heard.includes("disk_full"), "the failure");
    expect(heard).toEqual(["queued", "active", "failed", "disk_full"]);
  });

  test("sees in the end what the room of somebody else's job does not tell", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    try {
      const { platform } = given;
      const client = await given.connected();
      platform.job("a");
      const reasons: (string | null)[] = [];
      client.subscribeJob("a", { onCancelled: ({ reason }) => reasons.push(reason) });
      await until(() => platform.called("subscribe:job").length, "the subscription");
      platform.job("a", { status: "cancelled", cancelReason: "Mistake" });
      await vi.advanceTimersByTimeAsync(15_000);
      await until(() => reasons.length, "the end");
      expect(reasons).toEqual(["Mistake"]);
    } finally {
      vi.useRealTimers();
    }
  });

  test("never shows an ended job as running because of something late", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a");
    const statuses: string[] = [];
    client.subscribeJob("a", { onChange: ({ status }) => statuses.push(status) });
    await until(() => statuses.length, "the job");
    platform.complete("a", 1);
    platform.say("job:status", { jobId: "a", status: "active", progress: null });
    platform.progress("a", 1, 2);
    platform.say("job:started", { ...platform.jobs.get("a")!, status: "active", version: 1 });
    await until(() => statuses.includes("completed"), "the end");
    await until(() => platform.called("subscribe:job").length > 1, "a reading");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(statuses.filter((status) => status === "active")).toHaveLength(1);
    expect(statuses.at(-1)).toBe("completed");
  });

  test("shows a job that was sent round again", async () => {
    const { platform } = given;
    const client = await given.connected();
    platform.job("a", { status: "failed" });
    const statuses: string[] = [];
    client.subscribeJob("a", { onChange: ({ status }) => statuses.push(status) });
    await until(() => statuses.length, "the job");
    platform.job("a", { status: "queued" });
    platform.say("job:status", { jobId: "a", status: "queued", progress: null });
    await until(() => statuses.includes("queued"), "the second life");
    platform.say("job:started", platform.job("a", { status: "active", attempt: 2 }));
    platform.complete("a", 1);
    await until(() => statuses.includes("completed"), "the end");
    expect([...new Set(statuses)]).toEqual(["failed", "queued", "active", "completed"]);
  });

  test("five hundred at once come back after a loss", async () => {
    const { platform } = given;
    const client = await given.connected();
    const ids = Array.from({ length: 500 }, (_, number) => `job-${number}`);
    ids.forEach((id) => platform.job(id));
    const results = Promise.all(ids.map((id) => client.waitForJob(id)));
    await until(() => platform.called("subscribe:job").length === 500, "the subscriptions");
    platform.isDown = true;
    platform.cut();
    await until(() => !client.isConnected, "the loss");
    ids.forEach((id) => platform.complete(id, id));
    platform.isDown = false;
    expect(await results).toEqual(ids);
  });
});

test("what is cancelled from here shows at once to those who follow it", async () => {
  const { platform } = given;
  const client = await given.connected();
  platform.job("a");
  platform.routes.set("DELETE /api/jobs/a", ({ body }) => ({
    status: 200,
    body: platform.job("a", { status: "cancelled", cancelReason: body.reason }),
  }));
  const reasons: (string | null)[] = [];
  client.subscribeJob("a", { onCancelled: ({ reason }) => reasons.push(reason) });
  await until(() => platform.called("subscribe:job").length, "the subscription");
  await client.cancelJob("a", "Mistake");
  expect(reasons).toEqual(["Mistake"]);
});

test("lists are asked for with their filters", async () => {
  const { platform } = given;
  platform.routes.set("GET /api/jobs", () => ({ status: 200, body: { data: [], pagination: {} } }));
  await given.client().listJobs({ status: "active", tag: "a b", limit: 5 });
  expect(platform.requests[0]!.path).toBe("/api/jobs?status=active&tag=a+b&limit=5");
});
