/** A server that speaks the platform's contract, and does to its clients what networks and restarts do. */

import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http";
import type { AddressInfo, Socket as TcpSocket } from "node:net";

import { Server, type Socket } from "socket.io";

import type { Job } from "../src/index.js";

type Answer = { status: number; body?: unknown; headers?: Record<string, string> };
type Route = (request: { body: any; headers: IncomingMessage["headers"]; path: string }) => Answer | Promise<Answer>;

export interface Told {
  namespace: string;
  seq: number;
  name: string;
  data: object;
}

export class TestPlatform {
  epoch = 1_700_000_000_000;
  seq = 0;
  /** What the log still has. */
  log: Told[] = [];
  jobs = new Map<string, Job>();
  validTokens = new Set(["token"]);
  handshakes: { namespace: string; auth: any }[] = [];
  requests: { method: string; path: string; headers: IncomingMessage["headers"]; body: any }[] = [];
  calls: { name: string; data: any }[] = [];
  /** True: connections are closed as soon as they are made. */
  isDown = false;
  /** Answers a subscription in place of the platform. */
  onSubscribe: ((jobId: string, socket: Socket) => object | undefined) | undefined;
  /** How much more than was asked for is told again. */
  overlap = 0;
  readonly routes = new Map<string, Route>();
  readonly #http: HttpServer;
  readonly #io: Server;
  readonly #tcp = new Set<TcpSocket>();

  constructor() {
    this.#http = createServer((request, response) => void this.#answer(request, response));
    this.#http.on("connection", (socket) => {
      if (this.isDown) socket.destroy();
      this.#tcp.add(socket);
      socket.on("close", () => this.#tcp.delete(socket));
    });
    this.#io = new Server(this.#http, { serveClient: false });
    for (const name of ["/", "/queue", "/notifications"]) this.#serve(name);
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#http.listen(0, "127.0.0.1", resolve));
    return this;
  }

  async stop(): Promise<void> {
    this.cut();
    await this.#io.close();
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** Kill every TCP connection. */
  cut(): void {
    for (const socket of this.#tcp) socket.destroy();
  }

  connected(namespace = "/"): number {
    return this.#io.of(namespace).sockets.size;
  }

  /** Connections beneath the namespaces. */
  engines(): number {
    return this.#io.engine.clientsCount;
  }

  sockets(namespace = "/"): Socket[] {
    return [...this.#io.of(namespace).sockets.values()];
  }

  /** An event with a number of its own, or with the last one. */
  say(name: string, data: object, { namespace = "/", again = false } = {}): void {
    if (!again) this.seq++;
    this.#send({ namespace, seq: this.seq, name, data });
  }

  /** An event of the log that reaches nobody now. */
  keep(name: string, data: object, { namespace = "/", again = false } = {}): void {
    if (!again) this.seq++;
    this.log.push({ namespace, seq: this.seq, name, data });
  }

  /** The log is lost. */
  lose(): void {
    this.epoch++;
    this.seq = 0;
    this.log = [];
  }

  /** A message without a number. */
  whisper(name: string, data: object, namespace = "/"): void {
    this.#io.of(namespace).emit(name, data);
  }

  job(id: string, change: Partial<Job> = {}): Job {
    const now = new Date().toISOString();
    const before = this.jobs.get(id) ?? {
      id, type: "demo-steps", name: "Demo steps", status: "active", priority: 50, queue: "default", attempt: 1,
      maxAttempts: 3, progress: null, result: null, error: null, tags: [], uniqueKey: null, scheduleId: null,
      workflowId: null, parentId: null, createdAt: now, scheduledAt: null, startedAt: now, completedAt: null,
      nextAttemptAt: null, cancelReason: null, sensitive: false, version: 0,
    };
    const job: Job = { ...before, ...change, version: before.version + 1 };
    this.jobs.set(id, job);
    return job;
  }

  progress(id: string, current: number, total: number): void {
    const progress = { current, total, percentage: (100 * current) / total, message: `Step ${current} of ${total}` };
    this.jobs.set(id, { ...this.jobs.get(id)!, progress });
    this.say("job:progress", { jobId: id, jobName: "Demo steps", progress, percentage: progress.percentage });
  }

  complete(id: string, result: unknown): void {
    this.job(id, { status: "completed", result, completedAt: new Date().toISOString() });
    this.say("job:completed", { jobId: id, jobName: "Demo steps", result });
    this.say("job:status", { jobId: id, status: "completed", progress: null });
  }

  asked(method: string, path: string): number {
    return this.requests.filter((each) => each.method === method && each.path.startsWith(path)).length;
  }

  called(name: string): any[] {
    return this.calls.filter((each) => each.name === name).map((each) => each.data);
  }

  #send(told: Told): void {
    this.log.push(told);
    this.#io.of(told.namespace).emit(told.name, this.#numbered(told));
  }

  #numbered({ data, seq }: Told): object {
    return { ...data, eventId: `${this.epoch}-${seq}` };
  }

  #serve(namespace: string): void {
    const nsp = this.#io.of(namespace);
    nsp.use((socket, next) => {
      this.handshakes.push({ namespace, auth: socket.handshake.auth });
      if (this.validTokens.has(socket.handshake.auth["token"])) return next();
      next(Object.assign(new Error("The token has expired."), { data: error("token_expired", 401) }));
    });
    nsp.on("connection", (socket) => {
      this.#welcome(socket, namespace);
      socket.on("authenticate", ({ token }, acknowledge) => {
        this.calls.push({ name: "authenticate", data: token });
        acknowledge(this.validTokens.has(token) ? { ok: true } : { ok: false, error: error("invalid_token", 401) });
      });
      socket.on("subscribe:job", (jobId, acknowledge) => {
        this.calls.push({ name: "subscribe:job", data: jobId });
        const job = this.jobs.get(jobId);
        const usual = job ? { ok: true, job } : { ok: false, error: error("job_not_found", 404) };
        acknowledge(this.onSubscribe?.(jobId, socket) ?? usual);
      });
      socket.on("unsubscribe:job", (jobId, acknowledge) => {
        this.calls.push({ name: "unsubscribe:job", data: jobId });
        acknowledge({ ok: true });
      });
    });
  }

  #welcome(socket: Socket, namespace: string): void {
    const known = /^(\d+)-(\d+)$/.exec(socket.handshake.auth["lastEventId"] ?? "");
    if (known) {
      const isKnown = Number(known[1]) === this.epoch && Number(known[2]) <= this.seq;
      const missed = this.log.filter(
        (told) => told.namespace === namespace && told.seq > Number(known[2]) - this.overlap,
      );
      if (isKnown) for (const told of missed) socket.emit(told.name, this.#numbered(told));
      socket.emit("resumed", isKnown ? { recovered: true, count: missed.length } : { recovered: false });
    }
    socket.emit("authenticated", { userId: "user", lastEventId: this.seq ? `${this.epoch}-${this.seq}` : null });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of request) text += chunk;
    const path = request.url!;
    const body = text === "" ? undefined : JSON.parse(text);
    this.requests.push({ method: request.method!, path, headers: request.headers, body });
    const route = this.routes.get(`${request.method} ${path.split("?")[0]}`) ?? (() => this.#usual(request, path));
    const answer = await route({ body, headers: request.headers, path });
    response.writeHead(answer.status, { "Content-Type": "application/json", ...answer.headers });
    response.end(answer.body === undefined ? "" : JSON.stringify(answer.body));
  }

  #usual(request: IncomingMessage, path: string): Answer {
    const token = request.headers.authorization?.replace("Bearer ", "") ?? "";
    if (!this.validTokens.has(token)) return { status: 401, body: error("token_expired", 401) };
    const job = this.jobs.get(path.replace("/api/jobs/", ""));
    return job ? { status: 200, body: job } : { status: 404, body: error("job_not_found", 404) };
  }
}

export function error(code: string, status: number): object {
  return { code, message: `${code} it is`, status, requestId: "request-1" };
}

/** The first true value of `condition`. */
export async function until<Value>(condition: () => Value, what: string, milliseconds = 8_000): Promise<Value> {
  const ends = Date.now() + milliseconds;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > ends) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
