// Bun's server with its own publish, as in its documentation; uWebSockets joins the messages of an iteration.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    if (server.upgrade(request, { data: { room } })) return undefined;
    return new Response("not a WebSocket", { status: 400 });
  },
  websocket: {
    perMessageDeflate: process.argv.includes("--deflate"),
    open(client) {
      if (client.data.room !== "/echo") client.subscribe(client.data.room);
    },
    message(client, message) {
      const said = JSON.stringify({ type: "said", payload: JSON.parse(message).payload });
      if (client.data.room === "/echo") client.send(said);
      else server.publish(client.data.room, said);
    },
  },
});
console.log(server.port);
