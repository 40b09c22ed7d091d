// socket.io on Node with its rooms.
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
  const { room } = socket.handshake.query;
  socket.join(room);
  socket.on("post", (payload) => io.to(room).emit("said", payload));
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(http.address().port);
});
