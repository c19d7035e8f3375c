// Stands for the metadata service, on every address of the machine that it runs on: whatever is asked of it
// by TCP gets the host's credentials.
import { createServer } from 'node:http';
import { HOST_ROLE } from '../host-identity.ts';
import { answerCalls } from '../side-program.ts';

export type ListenerCalls = Readonly<Record<never, never>>;

/** The metadata service's own port, and one that is not. */
const PORTS = [80, 8080];

for (const port of PORTS) {
  const server = createServer((_, response) => response.end(HOST_ROLE));
  server.listen(port, '::', () => {
    if (port === PORTS.at(-1)) answerCalls<ListenerCalls>({});
  });
}
