// @vitest-environment happy-dom
import { act, cleanup, render, renderHook, waitFor } from "@testing-library/react";
import { StrictMode, type ReactNode } from "react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { CarillonClient, Notification } from "../src/index.js";
import {
  CarillonProvider,
  useConnectionState,
  useJob,
  useJobProgress,
  useNotifications,
  useQueueUpdates,
  useUnreadCount,
} from "../src/react.js";
import { until } from "./platform.js";
import { given } from "./setup.js";

let client: CarillonClient;

beforeEach(() => {
  client = given.client({ socketOptions: { transports: ["websocket"], reconnectionDelay: 20 } });
});

afterEach(cleanup);

function Strict({ children }: { children: ReactNode }): ReactNode {
  return (
    <StrictMode>
      <CarillonProvider client={client}>{children}</CarillonProvider>
    </StrictMode>
  );
}

function notification(id: string, change: Partial<Notification> = {}): Notification {
  const createdAt = new Date().toISOString();
  return {
    id, type: "job_completed", category: "success", title: id, message: "", data: {}, actions: null, resolution: null,
    read: false, readAt: null, archived: false, archivedAt: null, snoozedUntil: null, expiresAt: null, sendId: null,
    createdAt, ...change,
  };
}

/** An inbox of these, over REST. */
function inboxOf(...notifications: Notification[]): void {
  const { routes } = given.platform;
  routes.set("GET /api/notifications", () => ({
    status: 200,
    body: { data: notifications, pagination: { limit: 20, nextCursor: null }, unreadCount: 0, unreadVersion: 0 },
  }));
  routes.set("GET /api/notifications/unread-count", () => ({ status: 200, body: { count: 2, version: 7 } }));
}

describe("useJobProgress", () => {
  test("follows a job from its present state to its end", async () => {
    const { platform } = given;
    platform.job("a", { progress: { current: 1, total: 4, percentage: 25, message: "One", etaSeconds: 9 } });
    const { result } = renderHook(() => useJobProgress("a"), { wrapper: Strict });
    expect(result.current).toMatchObject({ progress: null, percentage: 0, status: null, message: null });
    await waitFor(() => expect(result.current.status).toBe("active"));
    expect(result.current).toMatchObject({ percentage: 25, message: "One", etaSeconds: 9, isConnected: true });
    platform.progress("a", 2, 4);
    await waitFor(() => expect(result.current.percentage).toBe(50));
    expect(result.current.progress).toMatchObject({ current: 2, total: 4, message: "Step 2 of 4" });
    platform.complete("a", { files: 3 });
    await waitFor(() => expect(result.current.status).toBe("completed"));
    expect(result.current).toMatchObject({ percentage: 100, result: { files: 3 }, error: null, etaSeconds: null });
  });

  test("tells why a job failed", async () => {
    given.platform.job("a", { status: "failed", error: { code: "disk_full", message: "No disk", retryable: false } });
    const { result } = renderHook(() => useJobProgress("a"), { wrapper: Strict });
    await waitFor(() => expect(result.current.error).toMatchObject({ code: "disk_full", message: "No disk" }));
  });

  test("shows the right picture after a loss that nobody can make up for", async () => {
    const { platform } = given;
    platform.job("a");
    const { result } = renderHook(() => useJobProgress("a"), { wrapper: Strict });
    await waitFor(() => expect(result.current.status).toBe("active"));
    platform.isDown = true;
    platform.cut();
    await waitFor(() => expect(result.current.isConnected).toBe(false));
    expect(result.current.status).toBe("active");
    platform.complete("a", 1);
    platform.lose();
    platform.isDown = false;
    await waitFor(() => expect(result.current).toMatchObject({ status: "completed", isConnected: true }));
  });

  test("goes over to another job, and to none", async () => {
    const { platform } = given;
    platform.job("a");
    platform.job("b", { status: "queued" });
    const { result, rerender } = renderHook(({ id }: { id: string | null }) => useJobProgress(id), {
      wrapper: Strict,
      initialProps: { id: "a" as string | null },
    });
    await waitFor(() => expect(result.current.status).toBe("active"));
    rerender({ id: "b" });
    await waitFor(() => expect(result.current.status).toBe("queued"));
    rerender({ id: null });
    expect(result.current.status).toBeNull();
    await until(() => platform.called("unsubscribe:job").length === 2, "the ends of both subscriptions");
  });
});

test("many components share one subscription, in strict mode too, and end it when they go", async () => {
  const { platform } = given;
  platform.job("a");
  let drawn = 0;
  function Bar(): ReactNode {
    const { job } = useJob("a");
    drawn++;
    return <i>{job?.status}</i>;
  }
  const page = render(
    <Strict>
      {Array.from({ length: 20 }, (_, number) => (
        <Bar key={number} />
      ))}
    </Strict>,
  );
  await waitFor(() => expect(page.container.textContent).toBe("active".repeat(20)));
  await until(() => platform.called("subscribe:job").length, "the subscription");
  expect(platform.called("subscribe:job")).toEqual(["a"]);
  expect(platform.handshakes).toHaveLength(1);
  page.rerender(<Strict>{null}</Strict>);
  await until(() => platform.called("unsubscribe:job").length === 1, "the end of the subscription");
  const before = drawn;
  act(() => platform.progress("a", 1, 2));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(drawn).toBe(before);
  page.unmount();
  await until(() => platform.connected() === 0, "the end of the connection");
});

test("a component knows of a job that cannot be read", async () => {
  const { result } = renderHook(() => useJob("nowhere"), { wrapper: Strict });
  expect(result.current.isLoading).toBe(true);
  await waitFor(() => expect(result.current.error).toMatchObject({ code: "job_not_found" }));
  expect(result.current.isLoading).toBe(false);
});

test("the unread count goes on and never back", async () => {
  inboxOf();
  const { platform } = given;
  const { result } = renderHook(() => useUnreadCount(), { wrapper: Strict });
  await waitFor(() => expect(result.current).toBe(2));
  await until(() => platform.connected("/notifications") === 1, "the inbox");
  const seen: (number | null)[] = [];
  client.notifications.watchUnread(() => seen.push(client.notifications.unread));
  for (const [count, version] of [[3, 8], [9, 6], [2, 7], [4, 9]] as const) {
    platform.whisper("unread-count", { count, version }, "/notifications");
  }
  await waitFor(() => expect(result.current).toBe(4));
  expect(seen).toEqual([3, 4]);
});

describe("useNotifications", () => {
  test("shows what comes, is read and goes on any device", async () => {
    inboxOf(notification("old"));
    const { platform } = given;
    const { result } = renderHook(() => useNotifications(), { wrapper: Strict });
    await waitFor(() => expect(result.current.notifications).toHaveLength(1));
    await until(() => platform.connected("/notifications") === 1, "the inbox");
    await waitFor(() => expect(platform.asked("GET", "/api/notifications?")).toBeGreaterThan(1));
    const inbox = { namespace: "/notifications" };
    platform.say("notification", notification("new"), inbox);
    await waitFor(() => expect(result.current.notifications.map(({ id }) => id)).toEqual(["new", "old"]));
    platform.say("notification:read", { id: "old" }, inbox);
    await waitFor(() => expect(result.current.notifications.map(({ read }) => read)).toEqual([false, true]));
    platform.say("notification:read", { id: null }, inbox);
    await waitFor(() => expect(result.current.notifications.every(({ read }) => read)).toBe(true));
    platform.say("notification:unread", { id: "new" }, inbox);
    await waitFor(() => expect(result.current.notifications[0]!.read).toBe(false));
    platform.say("notification:deleted", { id: "new" }, inbox);
    await waitFor(() => expect(result.current.notifications.map(({ id }) => id)).toEqual(["old"]));
    expect(result.current).toMatchObject({ unreadCount: 2, hasMore: false, isLoading: false, error: null });
  });

  test("has what is archived, snoozed and taken back leave and come", async () => {
    inboxOf(notification("3"), notification("1"));
    const { platform } = given;
    const { result } = renderHook(() => useNotifications(), { wrapper: Strict });
    await waitFor(() => expect(result.current.notifications).toHaveLength(2));
    await until(() => platform.connected("/notifications") === 1, "the inbox");
    await waitFor(() => expect(platform.asked("GET", "/api/notifications?")).toBeGreaterThan(1));
    const shown = () => result.current.notifications.map(({ id, resolution }) => [id, resolution]);
    const update = (id: string, change: Partial<Notification> = {}) =>
      platform.say("notification:updated", notification(id, change), { namespace: "/notifications" });
    update("3", { resolution: "approve" });
    await waitFor(() => expect(shown()).toEqual([["3", "approve"], ["1", null]]));
    update("3", { archived: true, read: true });
    await waitFor(() => expect(shown()).toEqual([["1", null]]));
    update("1", { snoozedUntil: new Date().toISOString() });
    await waitFor(() => expect(shown()).toEqual([]));
    update("1");
    update("3");
    update("2");
    await waitFor(() => expect(shown()).toEqual([["3", null], ["2", null], ["1", null]]));
    const archived = notification("2", { archived: true, read: true });
    platform.routes.set("PATCH /api/notifications/2/archive", () => ({ status: 200, body: archived }));
    await act(() => result.current.archive("2"));
    expect(shown()).toEqual([["3", null], ["1", null]]);
  });

  test("reads again after a gap, and acts on the inbox", async () => {
    inboxOf(notification("a"));
    const { platform } = given;
    const { result } = renderHook(() => useNotifications({ unread: true }), { wrapper: Strict });
    await waitFor(() => expect(result.current.notifications).toHaveLength(1));
    await until(() => platform.connected("/notifications") === 1, "the inbox");
    inboxOf(notification("a"), notification("b"));
    platform.whisper("resumed", { recovered: false }, "/notifications");
    await waitFor(() => expect(result.current.notifications).toHaveLength(2));
    const readAt = new Date().toISOString();
    platform.routes.set("PATCH /api/notifications/a/read", () => ({ status: 200, body: { id: "a", read: true, readAt } }));
    await act(() => result.current.markRead("a"));
    expect(result.current.notifications.map(({ id }) => id)).toEqual(["b"]);
  });
});

test("queue updates come to components, the last of each job first", async () => {
  const { platform } = given;
  const stages: string[] = [];
  const { result } = renderHook(() => useQueueUpdates(({ stage }) => stages.push(stage)), { wrapper: Strict });
  await until(() => platform.connected("/queue") === 1, "/queue");
  const tell = (jobId: string, stage: string) =>
    platform.say("queue-update", { eventType: "job-progress", jobId, stage }, { namespace: "/queue" });
  tell("a", "one");
  tell("b", "two");
  tell("a", "three");
  await waitFor(() => expect(result.current.map(({ jobId, stage }) => `${jobId} ${stage}`)).toEqual(["a three", "b two"]));
  expect(stages).toEqual(["one", "two", "three"]);
});

test("a component sees how the connection is", async () => {
  const { result } = renderHook(() => useConnectionState(), { wrapper: Strict });
  await waitFor(() => expect(result.current).toBe("connected"));
  given.platform.isDown = true;
  given.platform.cut();
  await waitFor(() => expect(result.current).toBe("reconnecting"));
});

test("hooks outside a provider say what they need", () => {
  expect(() => renderHook(() => useUnreadCount())).toThrow("CarillonProvider");
});
