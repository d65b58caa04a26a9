// A stock socket.io-client that prints each event it hears as a line of JSON, until its input ends.
import { io } from "socket.io-client";

const socket = io(process.argv[2], { auth: { token: process.env.TOKEN } });
const print = (name, data) => process.stdout.write(`${JSON.stringify([name, data ?? null])}\n`);

socket.onAny(print);
socket.on("connect_error", (error) => print("connect_error", { message: error.message, data: error.data }));
process.stdin.on("end", () => socket.close());
process.stdin.resume();
