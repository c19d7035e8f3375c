// An IMDS with minimal cost. The fake IMDS of test/support takes a millisecond to check a path.
import { createServer } from 'node:http';

const { port, bodies } = JSON.parse(process.argv[2] ?? '') as { port: number; bodies: Record<string, number> };
const TTL_S = '21600';
const answers = new Map(Object.entries(bodies).map(([path, size]) => [path, Buffer.alloc(size, 'x')]));

createServer((request, response) => {
  if (request.method === 'PUT') {
    response.writeHead(200, ['Content-Length', '5', 'X-Aws-Ec2-Metadata-Token-Ttl-Seconds', TTL_S]);
    return void response.end('token');
  }
  const body = answers.get(request.url ?? '');
  response.writeHead(body === undefined ? 404 : 200, [
    'Content-Type', 'text/plain', 'Content-Length', String(body?.length ?? 0), 'Server', 'EC2ws',
  ]);
  response.end(body);
}).listen(port, '127.0.0.1');
