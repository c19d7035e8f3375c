// Stands for the metadata service at its IPv6 address: whatever is asked gets the host's role.
import { createServer } from 'node:http';
import { HOST_ROLE } from '../host-identity.ts';
import { answerCalls } from '../side-program.ts';

const server = createServer((_, response) => response.end(HOST_ROLE));
server.listen({ port: 80, host: 'fd00:ec2::254', ipv6Only: true }, () => answerCalls<Readonly<Record<never, never>>>({}));
