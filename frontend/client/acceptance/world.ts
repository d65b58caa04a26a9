/** A whole platform, named by the environment, and a network in between that can be cut. */

import { connect, createServer, type AddressInfo, type Server, type Socket as TcpSocket } from "node:net";

import { createClient, type CarillonClient, type ClientOptions } from "@carillon/client";

export const url = process.env["CARILLON_URL"] ?? "";
if (!url) throw new Error("CARILLON_URL is not set; tests/acceptance/test_javascript_client.py does that.");

/** Somebody who registered for the tests of one file, so that files do not disturb each other. */
export const credentials = await register();

async function register(): Promise<{ username: string; password: string }> {
  const [username, password] = [`js-${Math.random().toString(36).slice(2)}`, "correct horse battery"];
  const account = { username, email: `${username}@example.com`, password };
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${url}/api/auth/register`, { method: "POST", headers, body: JSON.stringify(account) });
  if (answer.status !== 201) throw new Error(`registration answered ${answer.status}: ${await answer.text()}`);
  return { username, password };
}

/** A client of that user. */
export function newClient(options: Partial<ClientOptions> = {}): CarillonClient {
  const socketOptions = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
  return createClient({ url, credentials, socketOptions, ...options });
}

/** The user's token, for code that knows nothing of this package. */
export async function freshToken(): Promise<string> {
  return (await newClient().login(credentials.username, credentials.password)).accessToken;
}

/** The first true value of `condition`. */
export async function until<Value>(condition: () => Value, what: string, milliseconds = 20_000): Promise<Value> {
  const ends = Date.now() + milliseconds;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > ends) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A way to the platform whose connections can be killed. */
export class Wire {
  /** True: connections are closed as soon as they are made. */
  isDown = false;
  readonly #ends = new Set<TcpSocket>();
  readonly #server: Server = createServer((near) => {
    if (this.isDown) near.destroy();
    else this.#join(near);
  });

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    for (const end of this.#ends) end.destroy();
  }

  stop(): void {
    this.cut();
    this.#server.close();
  }

  #join(near: TcpSocket): void {
    const { hostname, port } = new URL(url);
    const far = connect(Number(port), hostname);
    near.pipe(far).pipe(near);
    for (const [end, other] of [[near, far], [far, near]] as const) {
      this.#ends.add(end);
      end.on("error", () => other.destroy());
      end.on("close", () => {
        this.#ends.delete(end);
        other.destroy();
      });
    }
  }
}
