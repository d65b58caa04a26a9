// S4, "How Clients Use It": the code of the document with only the host changed. What it does goes out as lines of JSON.
import { io } from "socket.io-client";

const [host] = process.argv.slice(2);
const yourJwtToken = process.env.TOKEN;
const print = (name, data) => process.stdout.write(`${JSON.stringify([name, data])}\n`);
console.log = (...said) => print("said", { said });

// Connect to Queue WebSocket (separate from notifications)
const socket = io(`${host}/queue`, {
  auth: { token: yourJwtToken }
});

// Listen for queue updates
socket.on('queue-update', (update) => {
  console.log(`${update.stage}: ${update.progress}%`);

  if (update.eventType === 'job-completed') {
    console.log('Analysis results:', update.result);
  }
});

socket.on("connect", () => print("connect", {}));
socket.on("connect_error", (error) => print("connect_error", { message: error.message }));
socket.on("queue-update", (update) => print("queue-update", update));
process.stdin.on("end", () => socket.close());
process.stdin.resume();
