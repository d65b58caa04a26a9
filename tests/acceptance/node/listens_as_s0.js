// S0, §3.1: the code of the document with only the host and the job changed. What it does goes out as lines of JSON.
import { io } from "socket.io-client";

const [host, wantedJobId] = process.argv.slice(2);
const print = (name, data) => process.stdout.write(`${JSON.stringify([name, data])}\n`);
console.log = (...said) => print("said", { said });
const updateProgressBar = (progress) => print("updateProgressBar", { progress });
const showCompletionMessage = (result) => print("showCompletionMessage", { result });
const showErrorMessage = (error) => print("showErrorMessage", { error });

// Browser client example
const socket = io(host, {
  auth: {
    token: process.env.TOKEN
  }
});

// Listen for connection events
socket.on('connect', () => {
  console.log('Connected to server');

  // Subscribe to a specific job
  socket.emit('subscribe:job', wantedJobId);
});

// Listen for job progress
socket.on('job:progress', (data) => {
  console.log(`Job ${data.jobId} progress: ${data.progress}%`);
  updateProgressBar(data.progress);
});

// Listen for job completion
socket.on('job:completed', (data) => {
  console.log(`Job ${data.jobId} completed with result:`, data.result);
  showCompletionMessage(data.result);
});

// Listen for job failure
socket.on('job:failed', (data) => {
  console.log(`Job ${data.jobId} failed:`, data.error);
  showErrorMessage(data.error);
});

// Unsubscribe when done
function unsubscribeFromJob(jobId) {
  socket.emit('unsubscribe:job', jobId);
}

// The events of the job's room, which §2.1 describes and §3.1 subscribes to.
socket.onAny((name, data) => {
  if (name.startsWith(`job:${wantedJobId}:`)) print(name, data);
});
process.stdin.on("end", () => {
  unsubscribeFromJob(wantedJobId);
  socket.close();
});
process.stdin.resume();
