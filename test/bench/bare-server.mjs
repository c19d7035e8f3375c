// What the proxy is measured against: the smallest node:http server that answers the same bytes.
import { createServer } from 'node:http';

const body = Buffer.from(process.argv[2] ?? '');
const server = createServer((_request, response) => {
  response.writeHead(200, ['Content-Type', 'text/plain', 'Content-Length', String(body.length), 'Server', 'EC2ws']);
  response.end(body);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
