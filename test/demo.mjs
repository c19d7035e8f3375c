// `make demo`: starts the built program with embedded defaults, sends a container's requests and prints the answers.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const once = process.argv.includes('--once');
const port = process.env.PORT ?? (once ? '0' : '18000');

const proxy = spawn('bin/metadataproxy', ['--mock', '--mock-credentials', '--server', `127.0.0.1:${port}`], {
  env: {
    PATH: process.env.PATH,
    ADMIN_ADDR: 'off',
    LOG_FORMAT: 'json',
    AWS_EC2_METADATA_DISABLED: 'true',
    // No Docker is needed: callers on loopback count as a container.
    DOCKER_URL: 'unix:///nonexistent/docker.sock',
  },
  stdio: ['ignore', 'inherit', 'pipe'],
});
let started = false;
const exited = new Promise((resolve) => {
  proxy.once('exit', (code) => (started ? resolve() : process.exit(code || 1)));
});

const base = await listening();
const dim = (text) => (process.stdout.isTTY ? `\x1b[2m${text}\x1b[0m` : text);

async function show(title, method, path, headers = {}) {
  const response = await fetch(base + path, { method, headers, redirect: 'manual' });
  const body = await response.text();
  const sent = Object.entries(headers).map(([name, value]) => ` -H '${name}: ${value}'`);
  console.log(`\n${title}\n${dim(`$ curl${method === 'GET' ? '' : ` -X ${method}`}${sent.join('')} ${base}${path}`)}`);
  console.log(`${response.status} ${response.statusText}\n${body}`);
  if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}`);
  return body;
}

try {
  console.log(`metadataproxy runs on ${base}, with a built-in metadata tree and fake credentials.`);
  console.log('The requests of a container, which the firewall redirects from http://169.254.169.254:');
  const token = await show('1. a session token (IMDSv2)', 'PUT', '/latest/api/token', {
    'X-aws-ec2-metadata-token-ttl-seconds': '21600',
  });
  const headers = { 'X-aws-ec2-metadata-token': token };
  const role = await show('2. the name of its role', 'GET', '/latest/meta-data/iam/security-credentials/', headers);
  await show("3. that role's credentials", 'GET', `/latest/meta-data/iam/security-credentials/${role}`, headers);
  await show('4. other metadata, which comes from the instance', 'GET', '/latest/meta-data/instance-id', headers);
} catch (error) {
  console.error(`\nThe demo failed: ${error.message}`);
  process.exitCode = 1;
}

if (once || process.exitCode) {
  proxy.kill('SIGTERM');
} else {
  console.log(`
The proxy keeps running. Point an SDK or the AWS CLI at it with
  export AWS_EC2_METADATA_SERVICE_ENDPOINT=${base}
Press Ctrl-C to stop it.`);
  process.on('SIGINT', () => proxy.kill('SIGINT'));
  process.on('SIGTERM', () => proxy.kill('SIGTERM'));
}
await exited;

/** Resolves to the base URL when the proxy listens. Prints the proxy's errors. */
function listening() {
  return new Promise((resolve) => {
    const lines = createInterface({ input: proxy.stderr });
    lines.on('line', (line) => {
      const entry = line.startsWith('{') ? JSON.parse(line) : { level: 'error', msg: line };
      if (entry.msg === 'listening') {
        started = true;
        resolve(`http://${entry.address}`);
      } else if (entry.level === 'error') console.error(entry.msg);
    });
  });
}
