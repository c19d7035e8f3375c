// Sends bytes over TCP connections to the IMDS address from its own network namespace, and returns the received bytes. No
// HTTP client normalises the requests.
import { connect } from 'node:net';
import { answerCalls } from '../side-program.ts';

export interface RawRequestsCalls {
  /**
   * Sends each request over a new connection and returns what is received until the server closes it, or until `quiet`
   * milliseconds pass without a byte. All strings are latin1 bytes.
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
      // A server may reset the connection after an invalid request; what it sent before counts.
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
