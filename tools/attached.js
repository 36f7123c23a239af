// Preloaded into Azurite (node --require). When the parent closes our standard input, or is gone, Azurite ends as it
// does at Ctrl-C: only then does it save to disk what it still holds in memory.
const DEADLINE_MS = 4000;

process.stdin.on("end", () => {
  setTimeout(() => process.exit(1), DEADLINE_MS).unref();
  if (!process.emit("SIGINT")) process.exit(0);
});
process.stdin.resume();
