// The baseline of B1, B2, B7 and B8: the smallest node:http server that sends the same bytes.
import { createServer } from 'node:http';

const { port, rawHeaders, body } = JSON.parse(process.argv[2] ?? '') as {
  port: number; rawHeaders: string[]; body: string;
};
const bytes = Buffer.from(body);
createServer((_request, response) => {
  response.writeHead(200, rawHeaders);
  response.end(bytes);
}).listen(port, '127.0.0.1');
