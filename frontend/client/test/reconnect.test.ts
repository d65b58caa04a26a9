import { describe, expect, test } from "vitest";

import type { CarillonClient } from "../src/index.js";
import { until } from "./platform.js";
import { given } from "./setup.js";

/** The steps that a client hears of, in order. */
function steps(client: CarillonClient): number[] {
  const heard: number[] = [];
  client.on("job:progress", ({ progress }) => heard.push(progress.current));
  return heard;
}

async function cutOff(client: CarillonClient, meanwhile: () => void): Promise<void> {
  given.platform.isDown = true;
  given.platform.cut();
  await until(() => client.state === "reconnecting", "the loss");
  meanwhile();
  given.platform.isDown = false;
  await until(() => client.isConnected, "the connection after the loss");
}

describe("a client that was cut off", () => {
  test("hears what it missed, once and in order", async () => {
    const { platform } = given;
    const client = await given.connected();
    const heard = steps(client);
    const resumed: unknown[] = [];
    client.on("resumed", (outcome) => resumed.push(outcome));
    platform.job("a");
    for (const step of [1, 2, 3]) platform.progress("a", step, 9);
    await until(() => heard.length === 3, "the first steps");
    await cutOff(client, () => [4, 5, 6].forEach((step) => platform.progress("a", step, 9)));
    for (const step of [7, 8, 9]) platform.progress("a", step, 9);
    await until(() => heard.includes(9), "the last step");
    expect(heard).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(platform.handshakes.at(-1)!.auth).toEqual({ token: "token", lastEventId: `${platform.epoch}-3` });
    expect(resumed).toEqual([{ recovered: true, count: 3 }]);
  });

  test("is spared what it is told a second time", async () => {
    const { platform } = given;
    platform.overlap = 2;
    const client = await given.connected();
    const heard = steps(client);
    platform.job("a");
    for (const step of [1, 2, 3]) platform.progress("a", step, 4);
    await until(() => heard.length === 3, "the first steps");
    await cutOff(client, () => platform.progress("a", 4, 4));
    await until(() => heard.includes(4), "the last step");
    expect(heard).toEqual([1, 2, 3, 4]);
  });

  test("begins where the platform said it stood, if it has heard nothing", async () => {
    const { platform } = given;
    platform.keep("job:progress", {});
    const client = await given.connected();
    const heard = steps(client);
    await cutOff(client, () => platform.progress(platform.job("a").id, 1, 1));
    await until(() => heard.length, "what was missed");
    expect(heard).toEqual([1]);
  });

  test("is told once that something was lost, and goes on from there", async () => {
    const { platform } = given;
    const client = await given.connected();
    const heard = steps(client);
    const gaps: unknown[] = [];
    client.on("gap", (gap) => gaps.push(gap));
    platform.job("a");
    platform.progress("a", 1, 9);
    await until(() => heard.length === 1, "the first step");
    await cutOff(client, () => {
      platform.progress("a", 2, 9);
      platform.lose();
    });
    await until(() => gaps.length, "the gap");
    platform.progress("a", 3, 9);
    await until(() => heard.length === 2, "a step of the new epoch");
    await cutOff(client, () => platform.progress("a", 4, 9));
    await until(() => heard.length === 3, "what was missed of the new epoch");
    expect(heard).toEqual([1, 3, 4]);
    expect(gaps).toEqual([{ namespace: "/" }]);
  });

  test("knows of a loss where neither side has a number", async () => {
    const client = await given.connected();
    const gaps: unknown[] = [];
    client.on("gap", (gap) => gaps.push(gap));
    await cutOff(client, () => undefined);
    await until(() => gaps.length, "the gap");
  });

  test("takes any number after it was told of a loss in mid-connection", async () => {
    const { platform } = given;
    const client = await given.connected();
    const heard = steps(client);
    const gaps: unknown[] = [];
    client.on("gap", (gap) => gaps.push(gap));
    platform.job("a");
    for (const step of [1, 2, 3]) platform.progress("a", step, 9);
    platform.whisper("resumed", { recovered: false });
    platform.seq = 0;
    platform.progress("a", 4, 9);
    platform.seq = 0;
    platform.progress("a", 5, 9);
    platform.progress("a", 6, 9);
    await until(() => heard.includes(6), "the last step");
    expect(heard).toEqual([1, 2, 3, 4, 6]);
    expect(gaps).toHaveLength(1);
  });

  test("hears the second message of a number of which it had the first", async () => {
    const { platform } = given;
    const client = await given.connected();
    const inbox = { namespace: "/notifications" };
    const heard: string[] = [];
    client.notifications.on("notification", ({ id }) => heard.push(id));
    client.notifications.on("unread-count", ({ count }) => heard.push(`${count} unread`));
    await until(() => client.notifications.isConnected, "the inbox");
    platform.say("notification", { id: "n1" }, inbox);
    platform.say("unread-count", { count: 1, version: 1 }, { ...inbox, again: true });
    platform.say("notification", { id: "n2" }, inbox);
    await until(() => heard.length === 3, "the first message");
    await cutOff(client, () => platform.keep("unread-count", { count: 2, version: 2 }, { ...inbox, again: true }));
    await until(() => heard.length === 4, "the second message");
    expect(heard).toEqual(["n1", "1 unread", "n2", "2 unread"]);
  });

  test("comes back by itself when the platform has disconnected it", async () => {
    const client = await given.connected();
    const states: string[] = [];
    client.on("state", (state) => states.push(state));
    given.platform.sockets()[0]!.disconnect();
    await until(() => states.includes("connected"), "the connection after it");
    expect(states).toEqual(["reconnecting", "connected"]);
  });
});

test("a client that starts before the platform connects when it is there", async () => {
  given.platform.isDown = true;
  const client = given.client();
  client.connect();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(client.state).toBe("connecting");
  given.platform.isDown = false;
  await until(() => client.isConnected, "the connection");
});

test("a closed client is told at the next connection what happened meanwhile", async () => {
  const { platform } = given;
  const client = await given.connected();
  const heard = steps(client);
  platform.job("a");
  platform.progress("a", 1, 2);
  await until(() => heard.length, "the first step");
  client.close();
  expect(client.state).toBe("closed");
  platform.progress("a", 2, 2);
  client.connect();
  await until(() => heard.length === 2, "the second step");
});

test("namespaces are connected to only while somebody listens", async () => {
  const { platform } = given;
  const client = await given.connected();
  expect(platform.connected("/queue")).toBe(0);
  const updates: number[] = [];
  const off = client.queue.on("queue-update", ({ progress }) => updates.push(progress));
  await until(() => platform.connected("/queue") === 1, "the connection to /queue");
  platform.say("queue-update", { eventType: "job-progress", progress: 40 }, { namespace: "/queue" });
  await until(() => updates.length, "the update");
  off();
  await until(() => platform.connected("/queue") === 0, "the end of the connection to /queue");
  expect(client.isConnected).toBe(true);
});

test("a listener that throws keeps nothing from the others", async () => {
  const client = await given.connected();
  const surfaced: unknown[] = [];
  const handlers = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => surfaced.push(error));
  try {
    client.on("job:progress", () => {
      throw new Error("of the application");
    });
    const heard = steps(client);
    given.platform.progress(given.platform.job("a").id, 1, 1);
    await until(() => heard.length && surfaced.length, "both");
  } finally {
    process.removeAllListeners("uncaughtException");
    handlers.forEach((handler) => process.on("uncaughtException", handler));
  }
});
