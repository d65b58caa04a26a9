import { describe, expect, test, vi } from "vitest";

import { CarillonApiError, type CarillonError } from "../src/index.js";
import { error, until } from "./platform.js";
import { given } from "./setup.js";

function session(number: number, expiresIn = 900): object {
  return { accessToken: `token-${number}`, refreshToken: `refresh-${number}`, expiresIn, user: { id: "user" } };
}

describe("getToken", () => {
  test("is asked anew when the handshake says that the token has run out", async () => {
    given.platform.validTokens = new Set(["second"]);
    const getToken = vi.fn((reason: string) => (reason === "start" ? "first" : "second"));
    await given.connected({ getToken });
    expect(getToken.mock.calls).toEqual([["start"], ["renew"]]);
    expect(given.platform.handshakes.map(({ auth }) => auth.token)).toEqual(["first", "second"]);
  });

  test("is asked before the token runs out, and the connection stays", async () => {
    const { platform } = given;
    const tokens = ["token", "second"];
    const getToken = vi.fn(() => tokens.shift()!);
    const client = await given.connected({ getToken });
    const states: string[] = [];
    client.on("state", (state) => states.push(state));
    client.queue.on("queue-update", () => undefined);
    await until(() => client.queue.isConnected, "/queue");
    platform.validTokens = new Set(["second"]);
    platform.whisper("auth:expiring", { expiresInSeconds: 60 });
    platform.whisper("auth:expiring", { expiresInSeconds: 60 }, "/queue");
    await until(() => platform.called("authenticate").length === 2, "two authentications");
    expect(platform.called("authenticate")).toEqual(["second", "second"]);
    expect(getToken).toHaveBeenCalledTimes(2);
    expect(states).toEqual([]);
  });

  test("may fail for a while", async () => {
    let tries = 0;
    const getToken = () => (++tries < 3 ? Promise.reject(new Error("offline")) : "token");
    await given.connected({ getToken });
    expect(tries).toBe(3);
  });

  test("may answer after its connection was lost, and one introduction is made", async () => {
    const { platform } = given;
    let tell: (token: string) => void = () => undefined;
    const client = given.client({ getToken: () => new Promise<string>((resolve) => (tell = resolve)) });
    client.connect();
    await until(() => platform.engines() === 1, "the first connection");
    platform.cut();
    await until(() => platform.engines() === 0, "its loss");
    await until(() => platform.engines() === 1, "the second connection");
    await new Promise((resolve) => setTimeout(resolve, 30));
    tell("token");
    await until(() => client.isConnected, "the introduction");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(platform.handshakes).toHaveLength(1);
  });

  test("that only knows refused tokens ends in a refusal", async () => {
    let number = 0;
    const client = given.client({ getToken: () => `bad-${++number}` });
    const refused: CarillonError[] = [];
    client.on("refused", (why) => refused.push(why));
    client.connect();
    await until(() => client.state === "refused", "the refusal");
    expect(refused.map(({ code }) => code)).toEqual(["token_expired"]);
    expect(number).toBe(3);
    given.platform.validTokens.add("bad-3");
    client.connect();
    await until(() => client.isConnected, "the connection at the next try");
  });
});

test("a getToken that fails for a while fails no wait", async () => {
  given.platform.job("a", { status: "completed", result: 1 });
  let tries = 0;
  const getToken = () => (++tries < 2 ? Promise.reject(new Error("offline")) : "token");
  expect(await given.client({ getToken }).waitForJob("a")).toBe(1);
});

test("a token that comes after somebody else has logged in is dropped", async () => {
  const { platform } = given;
  platform.routes.set("POST /api/auth/login", () => ({ status: 200, body: session(2) }));
  platform.validTokens = new Set(["token-1", "token-2"]);
  platform.job("a");
  let tell: (token: string) => void = () => undefined;
  const client = given.client({ getToken: () => new Promise<string>((resolve) => (tell = resolve)) });
  const job = client.getJob("a");
  await client.login("bob", "secret");
  tell("token-1");
  await job;
  await client.getJob("a");
  const tokens = platform.requests.filter(({ method }) => method === "GET").map(({ headers }) => headers.authorization);
  expect(tokens).toEqual(["Bearer token-2", "Bearer token-2"]);
});

test("a plain token that has run out is refused, not tried for ever", async () => {
  const client = given.client({ token: "old" });
  client.connect();
  await until(() => client.state === "refused", "the refusal");
  expect(given.platform.handshakes).toHaveLength(1);
});

describe("a session", () => {
  test("is begun by login, and refreshed once however many ask", async () => {
    const { platform } = given;
    let number = 0;
    platform.routes.set("POST /api/auth/login", () => ({ status: 200, body: session(++number) }));
    platform.routes.set("POST /api/auth/refresh", async ({ body }) => {
      expect(body).toEqual({ refreshToken: "refresh-1" });
      await new Promise((resolve) => setTimeout(resolve, 30));
      platform.validTokens = new Set(["token-2"]);
      return { status: 200, body: session(++number) };
    });
    platform.validTokens = new Set(["token-1"]);
    platform.job("a");
    const onSession = vi.fn();
    const client = given.client({ credentials: { username: "ann", password: "secret" }, onSession });
    await client.getJob("a");
    platform.validTokens = new Set();
    client.connect();
    const jobs = await Promise.all(Array.from({ length: 8 }, () => client.getJob("a")));
    await until(() => client.isConnected, "the connection");
    expect(jobs).toHaveLength(8);
    expect(platform.asked("POST", "/api/auth/login")).toBe(1);
    expect(platform.asked("POST", "/api/auth/refresh")).toBe(1);
    expect(onSession.mock.calls.map(([each]) => each.refreshToken)).toEqual(["refresh-1", "refresh-2"]);
  });

  test("is refreshed before its token runs out on the way", async () => {
    const { platform } = given;
    platform.validTokens = new Set(["token-1", "token-2"]);
    platform.routes.set("POST /api/auth/login", () => ({ status: 200, body: session(1, 1) }));
    platform.routes.set("POST /api/auth/refresh", () => ({ status: 200, body: session(2) }));
    platform.job("a");
    const client = given.client();
    await client.login("ann", "secret");
    await client.getJob("a");
    expect(platform.requests.at(-1)!.headers.authorization).toBe("Bearer token-2");
  });

  test("that is over begins anew with the credentials", async () => {
    const { platform } = given;
    platform.validTokens = new Set(["token-1"]);
    platform.job("a");
    platform.routes.set("POST /api/auth/refresh", () => ({ status: 401, body: error("invalid_token", 401) }));
    platform.routes.set("POST /api/auth/login", () => ({ status: 200, body: session(1) }));
    const client = given.client({
      refreshToken: "stale",
      credentials: { username: "ann", password: "secret" },
    });
    expect((await client.getJob("a")).id).toBe("a");
  });

  test("of another user knows nothing of the first one's events", async () => {
    const { platform } = given;
    platform.routes.set("POST /api/auth/login", ({ body }) => ({ status: 200, body: session(body.username) }));
    platform.validTokens = new Set(["token-ann", "token-bob"]);
    const client = given.client();
    await client.login("ann", "secret");
    client.connect();
    await until(() => client.isConnected, "the connection");
    platform.say("job:status", {});
    await client.login("bob", "secret");
    await until(() => client.isConnected && platform.handshakes.length === 2, "the second connection");
    expect(platform.handshakes.map(({ auth }) => auth)).toEqual([{ token: "token-ann" }, { token: "token-bob" }]);
  });

  test("is ended by logout", async () => {
    const { platform } = given;
    platform.routes.set("POST /api/auth/login", () => ({ status: 200, body: session(1) }));
    platform.routes.set("POST /api/auth/logout", () => ({ status: 204 }));
    platform.validTokens = new Set(["token-1"]);
    const client = given.client();
    await client.login("ann", "secret");
    client.connect();
    await until(() => client.isConnected, "the connection");
    await client.logout();
    expect(platform.requests.at(-1)!.body).toEqual({ refreshToken: "refresh-1" });
    expect(client.state).toBe("closed");
  });
});

describe("requests", () => {
  test("that are refused reject with the platform's error", async () => {
    const problem = { ...error("validation_failed", 422), errors: { "payload.steps": ["Missing."] } };
    given.platform.routes.set("POST /api/jobs", () => ({ status: 422, body: problem }));
    const refusal = await given.client().submitJob("demo-steps").catch((each: unknown) => each);
    expect(refusal).toBeInstanceOf(CarillonApiError);
    expect(refusal).toMatchObject({
      code: "validation_failed",
      status: 422,
      errors: { "payload.steps": ["Missing."] },
      requestId: "request-1",
    });
  });

  test("that a proxy refuses reject alike", async () => {
    given.platform.routes.set("GET /api/jobs/a", () => ({ status: 403, body: "<html>" }));
    await expect(given.client().getJob("a")).rejects.toMatchObject({ code: "http_error", status: 403 });
  });

  test("that find nobody reject as such, and submissions are tried again with the same key", async () => {
    const { platform } = given;
    let tries = 0;
    platform.routes.set("POST /api/jobs", () =>
      ++tries < 3
        ? { status: 503, body: error("service_unavailable", 503), headers: { "Retry-After": "0" } }
        : { status: 202, body: platform.job("a") },
    );
    const client = given.client();
    expect((await client.submitJob("demo-steps", { steps: 1 }, { priority: 90 }, { name: "mine" })).id).toBe("a");
    const keys = new Set(platform.requests.map(({ headers }) => headers["idempotency-key"]));
    expect(keys.size).toBe(1);
    expect([...keys][0]).toMatch(/^[\x20-\x7e]{20,60}$/);
    expect(platform.requests[0]!.body).toEqual({
      type: "demo-steps",
      name: "mine",
      payload: { steps: 1 },
      options: { priority: 90 },
    });
    platform.isDown = true;
    platform.cut();
    await expect(client.cancelJob("a")).rejects.toMatchObject({ code: "connection_failed" });
  });
});
