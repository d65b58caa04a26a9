// @vitest-environment happy-dom
// The client code of S1 and S2 with only the host changed, and what a page around it would bring along.
import { cleanup, render, waitFor } from "@testing-library/react";
import { useEffect, useState } from "react";
import { io, type Socket } from "socket.io-client";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type CarillonClient } from "@carillon/client";
import { CarillonProvider, useJobProgress as useLiveProgress, useNotifications } from "@carillon/client/react";

import { freshToken, newClient, until, url } from "./world.js";

let client: CarillonClient;
let socket: Socket;

beforeEach(async () => {
  client = newClient();
  client.connect();
  socket = io(url, { auth: { token: await freshToken() }, transports: ["websocket"] });
  await until(() => socket.connected && client.isConnected, "both sockets");
});

afterEach(() => {
  cleanup();
  socket.close();
  client.close();
});

type JobProgress = { current: number; total: number; percentage: number; message?: string; detail?: string };

// S2, "Frontend: Listening for Progress" and "Progress Bar Component", word for word but for the type of the id.

function useJobProgress(jobId: string) {
  const [progress, setProgress] = useState<JobProgress | null>(null);

  useEffect(() => {
    // Listen for progress updates
    const handleProgress = (data: { jobId: string; progress: JobProgress }) => {
      if (data.jobId === jobId) {
        setProgress(data.progress);
      }
    };

    // Subscribe to WebSocket event
    socket.on('job:progress', handleProgress);

    return () => {
      socket.off('job:progress', handleProgress);
    };
  }, [jobId]);

  return progress;
}

function LibraryScanProgress({ jobId }: { jobId: string }) {
  const progress = useJobProgress(jobId);

  if (!progress) {
    return <div>Waiting to start...</div>;
  }

  return (
    <div>
      <div className="progress-bar">
        <div
          className="progress-fill"
          style={{ width: `${progress.percentage}%` }}
        />
      </div>
      <div className="progress-info">
        <span>{progress.message}</span>
        <span>{progress.percentage}%</span>
      </div>
      {progress.detail && (
        <div className="progress-detail">{progress.detail}</div>
      )}
    </div>
  );
}

function JobProgressBar({ jobId }: { jobId: string }) {
  const progress = useJobProgress(jobId);
  const [status, setStatus] = useState<'pending' | 'processing' | 'completed' | 'failed'>('pending');

  // Listen for job lifecycle events
  useEffect(() => {
    const handleStarted = (data: { jobId: string }) => {
      if (data.jobId === jobId) setStatus('processing');
    };

    const handleCompleted = (data: { jobId: string }) => {
      if (data.jobId === jobId) setStatus('completed');
    };

    const handleFailed = (data: { jobId: string }) => {
      if (data.jobId === jobId) setStatus('failed');
    };

    socket.on('job:started', handleStarted);
    socket.on('job:completed', handleCompleted);
    socket.on('job:failed', handleFailed);

    return () => {
      socket.off('job:started', handleStarted);
      socket.off('job:completed', handleCompleted);
      socket.off('job:failed', handleFailed);
    };
  }, [jobId]);

  if (status === 'completed') {
    return <div className="success">✓ Job completed!</div>;
  }

  if (status === 'failed') {
    return <div className="error">✗ Job failed</div>;
  }

  if (status === 'pending') {
    return <div className="pending">Waiting to start...</div>;
  }

  // Processing
  return (
    <div className="job-progress">
      <div className="progress-bar">
        <div
          className="fill"
          style={{ width: `${progress?.percentage || 0}%` }}
        />
      </div>
      <div className="info">
        <span>{progress?.message || 'Processing...'}</span>
        <span className="percentage">{progress?.percentage || 0}%</span>
      </div>
      {progress?.detail && (
        <div className="detail">{progress.detail}</div>
      )}
    </div>
  );
}

// S2, "Job Queue Dashboard", but for the first reading: the list is a page, and asks who is there.

type Job = { jobId: string };

function JobQueueDashboard() {
  const [activeJobs, setActiveJobs] = useState<Job[]>([]);

  useEffect(() => {
    // Fetch active jobs
    client.listJobs({ status: 'active' }).then(({ data }) => setActiveJobs(data.map(({ id }) => ({ jobId: id }))));

    // Listen for new jobs
    socket.on('job:created', (data) => {
      setActiveJobs(prev => [...prev, data]);
    });

    socket.on('job:completed', (data) => {
      setActiveJobs(prev => prev.filter(j => j.jobId !== data.jobId));
    });

    socket.on('job:failed', (data) => {
      setActiveJobs(prev => prev.filter(j => j.jobId !== data.jobId));
    });

    return () => {
      socket.off('job:created');
      socket.off('job:completed');
      socket.off('job:failed');
    };
  }, []);

  return (
    <div className="job-queue">
      <h2>Active Jobs ({activeJobs.length})</h2>
      {activeJobs.map(job => (
        <JobProgressBar key={job.jobId} jobId={job.jobId} />
      ))}
    </div>
  );
}

/** A job that begins when the page is there, and what the page showed until it ended. */
async function shown(payload: object, page: (jobId: string) => React.ReactNode): Promise<string[]> {
  const { id } = await client.submitJob('demo-steps', { ...payload }, { delay: 1 });
  const { container } = render(page(id));
  const texts: string[] = [container.textContent ?? ''];
  const observer = new MutationObserver(() => texts.push(container.textContent ?? ''));
  observer.observe(container, { childList: true, subtree: true, characterData: true });
  await client.waitForJob(id, { timeout: 20_000 }).catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 300));
  observer.disconnect();
  return [...new Set([...texts, container.textContent ?? ''])];
}

test("S2's hook shows each stage of a job", async () => {
  const texts = await shown({ steps: 3, sleepMs: 200 }, (id) => <LibraryScanProgress jobId={id} />);
  expect(texts[0]).toBe('Waiting to start...');
  expect(texts.at(-1)).toBe('Step 3 of 3100%');
  expect(texts.length).toBeGreaterThan(2);
});

test("S2's progress bar goes from waiting to completed", async () => {
  const texts = await shown({ steps: 3, sleepMs: 200 }, (id) => <JobProgressBar jobId={id} />);
  expect(texts[0]).toBe('Waiting to start...');
  expect(texts.some((text) => text.startsWith('Step '))).toBe(true);
  expect(texts.at(-1)).toBe('✓ Job completed!');
});

test("S2's progress bar shows a failure", async () => {
  const texts = await shown({ steps: 3, failAt: 2, permanent: true }, (id) => <JobProgressBar jobId={id} />);
  expect(texts.at(-1)).toBe('✗ Job failed');
});

test("S2's dashboard takes jobs in and lets them go", async () => {
  const texts = await shown({ steps: 3, sleepMs: 200 }, () => <JobQueueDashboard />);
  const { container } = render(<JobQueueDashboard />);
  const { id } = await client.submitJob('demo-steps', { steps: 3, sleepMs: 200 });
  await waitFor(() => expect(container.textContent).toContain('Active Jobs (1)'), { timeout: 5_000 });
  await client.waitForJob(id, { timeout: 20_000 });
  await waitFor(() => expect(container.textContent).toBe('Active Jobs (0)'), { timeout: 5_000 });
  expect(texts[0]).toBe('Active Jobs (0)');
});

test("S1's events come to who authenticates after the connection", async () => {
  const late = io(url, { transports: ["websocket"], forceNew: true });
  const heard: [string, unknown][] = [];
  for (const name of ['authenticated', 'notification', 'job:status', 'job:completed', 'job:failed']) {
    late.on(name, (data) => heard.push([name, data]));
  }
  const about = (name: string) => heard.filter(([each]) => each === name).map(([, data]) => data as any);
  await until(() => late.connected, "the socket");
  late.emit('authenticate', { token: await freshToken() });
  await until(() => about('authenticated').length, "the authentication");
  const { id } = await client.submitJob('demo-steps', { steps: 2, sleepMs: 100 });
  late.emit('subscribe:job', { jobId: id });
  await until(() => about('job:completed').length, "the end of the job");
  await until(() => about('job:status').some(({ status }) => status === 'completed'), "the last status");
  late.emit('unsubscribe:job', { jobId: id });
  expect(about('authenticated')[0].userId).toEqual(expect.any(String));
  expect(about('job:completed')[0]).toMatchObject({ jobId: id, result: { steps: 2, attempt: 1 } });
  expect(about('job:status').map(({ status }) => status)).toContain('active');
  await until(() => about('notification').some(({ type }) => type === 'job_completed'), "the notification");
  late.close();
});

test("this package's own hooks follow a job and the inbox", async () => {
  function Page({ jobId }: { jobId: string }) {
    const { percentage, status } = useLiveProgress(jobId);
    const { notifications } = useNotifications({ limit: 5 });
    const isTold = notifications.some(({ type, data }) => type === 'job_completed' && data['jobId'] === jobId);
    return <p>{`${status} ${percentage} ${isTold ? 'told' : ''}`}</p>;
  }
  const { id } = await client.submitJob('demo-steps', { steps: 3, sleepMs: 200 });
  const { container } = render(
    <CarillonProvider client={client}>
      <Page jobId={id} />
    </CarillonProvider>,
  );
  await waitFor(() => expect(container.textContent).toBe('completed 100 told'), { timeout: 15_000 });
});
