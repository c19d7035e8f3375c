// Sends bytes over plain TCP connections to the metadata address from the network namespace that it is
// started in, and returns the bytes that came back: no HTTP client in between that would tidy up the request.
import { connect } from 'node:net';
import { answerCalls } from '../side-program.ts';

export interface RawRequestsCalls {
  /**
   * Sends each request over a connection of its own and returns what came back until the other side closed
   * or, for one that keeps the connection, until `quiet` milliseconds went by without a byte. All strings are
   * latin1 bytes.
   */
  exchange(host: string, port: number, requests: string[], quiet: number): Promise<string[]>;
}

function exchange(host: string, port: number, request: string, quiet: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const received: Buffer[] = [];
    const done = (): void => {
      socket.destroy();
      resolve(Buffer.concat(received).toString('latin1'));
    };
    const socket = connect({ host, port });
    socket.setTimeout(quiet, done);
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('close', done);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // A server that hangs up on nonsense may reset the connection: what it sent before counts.
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') done();
      else reject(error);
    });
    socket.write(request, 'latin1');
  });
}

answerCalls<RawRequestsCalls>({
  async exchange(host, port, requests, quiet) {
    const answers: string[] = [];
    for (const request of requests) answers.push(await exchange(host, port, request, quiet));
    return answers;
  },
});
