// The baseline of B3: the smallest node:http proxy that streams, keeps upstream connections alive, removes hop-by-hop
// headers, aborts when the client disconnects, and resets the client's connection when the server breaks off.
import { Agent, createServer, request } from 'node:http';
import { pipeline } from 'node:stream';

const { port, upstreamPort } = JSON.parse(process.argv[2] ?? '') as { port: number; upstreamPort: number };
const agent = new Agent({ keepAlive: true });
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer']);

createServer((incoming, outgoing) => {
  const { method, url: path } = incoming;
  const upstream = request({ host: '127.0.0.1', port: upstreamPort, method, path, agent }, (answer) => {
    const { rawHeaders } = answer;
    const headers = rawHeaders.filter((_, at) => !HOP_BY_HOP.has((rawHeaders[at - at % 2] ?? '').toLowerCase()));
    outgoing.writeHead(answer.statusCode ?? 502, headers);
    pipeline(answer, outgoing, () => {});
  });
  upstream.on('error', () => {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502).end();
  });
  outgoing.on('close', () => upstream.destroy());
  upstream.end();
}).listen(port, '127.0.0.1');
