// Preloaded into Azurite (node --require): when the process that started it closes our standard input, or is gone,
// Azurite closes as at Ctrl-C, which is the one way that it writes to disk what it still holds in memory.
const DEADLINE_MS = 4000;

process.stdin.on("end", () => {
  setTimeout(() => process.exit(1), DEADLINE_MS).unref();
  if (!process.emit("SIGINT")) process.exit(0);
});
process.stdin.resume();
