// `ws` on Node with a broadcast as in its README: a loop over the clients, with the text unchanged.
const { WebSocketServer, WebSocket } = require("ws");

const rooms = new Map();
// The level, the memory and the smallest size of uvicorn's compression.
const deflate = process.argv.includes("--deflate") && {
  threshold: 0,
  zlibDeflateOptions: { level: 6, memLevel: 5 },
};
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  backlog: 4096,
  perMessageDeflate: deflate,
});

server.on("listening", () => console.log(server.address().port));

server.on("connection", (client, request) => {
  if (!rooms.has(request.url)) rooms.set(request.url, new Set());
  // Without an entry in the map of rooms: an echo.
  const room = request.url === "/echo" ? new Set() : rooms.get(request.url);
  room.add(client);
  client.on("error", console.error);
  client.on("close", () => room.delete(client));
  client.on("message", (data, isBinary) => {
    for (const each of room) {
      if (each.readyState === WebSocket.OPEN) each.send(data, { binary: isBinary });
    }
  });
});
