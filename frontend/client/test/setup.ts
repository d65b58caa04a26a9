/** A platform and a client for each test. */

import { afterEach, beforeEach } from "vitest";

import { createClient, type CarillonClient, type ClientOptions } from "../src/index.js";
import { TestPlatform, until } from "./platform.js";

/** Fast enough for a test. */
export const FAST = { reconnectionDelay: 20, reconnectionDelayMax: 50 };

export const given = {} as {
  platform: TestPlatform;
  /** A client that is closed after the test. */
  client: (options?: Partial<ClientOptions>) => CarillonClient;
  connected: (options?: Partial<ClientOptions>) => Promise<CarillonClient>;
};

const clients: CarillonClient[] = [];

beforeEach(async () => {
  const platform = await new TestPlatform().start();
  given.platform = platform;
  given.client = (options) => {
    const identity = options?.getToken || options?.credentials || options?.refreshToken ? {} : { token: "token" };
    const client = createClient({ url: platform.url, ...identity, socketOptions: FAST, ...options });
    clients.push(client);
    return client;
  };
  given.connected = async (options) => {
    const client = given.client(options);
    client.connect();
    await until(() => client.isConnected, "the connection");
    return client;
  };
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await given.platform.stop();
});
