import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { runToEnd, startProxy, type ProxyOptions, type Test } from '../../support/proxy.ts';
import { arnOf, directory, fileWith, host, startFakes, type Fakes } from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const C = '127.0.0.23';

// metadataproxy check

interface Check {
  readonly name: string;
  readonly outcome: string;
  readonly detail: string;
  readonly advice?: string;
}

const REDIRECT =
  '-A PREROUTING -d 169.254.169.254/32 -i docker0 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 18000';

/** A PATH with an iptables that prints these rules for its list command and fails for any other. */
function iptables(t: Test, rules: readonly string[], exitCode = 0): string {
  const path = directory(t);
  const script = `#!/bin/sh
[ "$*" = "-w -t nat -S" ] || exit 99
cat <<'RULES'
${['-P PREROUTING ACCEPT', ...rules].join('\n')}
RULES
exit ${exitCode}
`;
  writeFileSync(join(path, 'iptables'), script);
  chmodSync(join(path, 'iptables'), 0o755);
  return `${path}:/usr/bin:/bin`;
}

async function check(
  t: Test,
  fakes: Partial<Fakes>,
  env: ProxyOptions['env'] = {},
  args: readonly string[] = [],
) {
  const { code, stdout } = await runToEnd({
    ...fakes,
    args: ['check', '--json', ...args],
    env: {
      PORT: '18000',
      PATH: iptables(t, [REDIRECT]),
      DEFAULT_ROLE: arnOf('fallback'),
      AWS_REGION: 'eu-west-1',
      ...env,
    },
  });
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
  const checkOf = (name: string): Check => {
    const found = checks.find((one) => one.name === name);
    assert.ok(found, `no check ${name} in ${stdout}`);
    return found;
  };
  return { code, ok, checks, checkOf };
}

const failed = (checks: readonly Check[]): string[] =>
  checks.filter(({ outcome }) => outcome === 'failed').map(({ name }) => name);

test('metadataproxy check: with a complete set-up all checks are ok and the exit code is 0', async (t) => {
  const fakes = await startFakes(t);
  await fakes.docker.host.run({ name: 'web', address: A });
  const { code, ok, checks } = await check(t, fakes);
  assert.deepEqual({ code, ok }, { code: 0, ok: true });
  assert.deepEqual(checks, [
    { name: 'Docker Engine', outcome: 'ok', detail: `unix://${fakes.docker.socketPath} answers; 1 running` },
    { name: 'metadata service', outcome: 'ok', detail: 'IMDSv1 and IMDSv2' },
    {
      name: "the proxy's credentials",
      outcome: 'ok',
      detail: 'arn:aws:iam::123456789012:user/base in eu-west-1',
    },
    { name: 'default role', outcome: 'ok', detail: `${arnOf('fallback')} can be assumed` },
    { name: 'firewall', outcome: 'ok', detail: REDIRECT },
    { name: 'port', outcome: 'unknown', detail: 'nothing listens on port 18000: the proxy does not run' },
  ]);
});

test('metadataproxy check prints a table, and advice for each failure', async (t) => {
  const fakes = await startFakes(t);
  const good = await runToEnd({
    ...fakes,
    args: ['check'],
    env: { PORT: '18000', PATH: iptables(t, [REDIRECT]) },
  });
  assert.deepEqual({ code: good.code, stderr: good.stderr }, { code: 0, stderr: '' });
  const [head = '', ...rows] = good.stdout.trimEnd().split('\n');
  assert.match(head, /^CHECK +RESULT +DETAIL$/);
  const [result, found] = [head.indexOf('RESULT'), head.indexOf('DETAIL')];
  assert.deepEqual(
    rows.map((row) => [row.slice(0, result).trim(), row.slice(result, found).trim()]),
    [
      ['Docker Engine', 'ok'],
      ['metadata service', 'ok'],
      ["the proxy's credentials", 'ok'],
      ['default role', 'ok'],
      ['firewall', 'ok'],
      ['port', '?'],
    ],
  );

  const bad = await runToEnd({
    imds: fakes.imds,
    sts: fakes.sts,
    args: ['check'],
    env: { PORT: '18000', PATH: iptables(t, []) },
  });
  assert.equal(bad.code, 1);
  assert.match(
    bad.stdout,
    /^Docker Engine +FAILED +the Docker Engine at unix:\/\/\/nonexistent\/docker\.sock cannot be used: /m,
  );
  assert.match(bad.stdout, /^Docker Engine: Is the daemon running, does DOCKER_URL name its socket, /m);
  assert.match(
    bad.stdout,
    /^firewall: Containers reach the upstream IMDS directly: run the firewall script \(see README\)\.$/m,
  );
});

test('metadataproxy check: a Docker Engine that does not answer fails', async (t) => {
  const { imds, sts } = await startFakes(t);
  const { code, ok, checks, checkOf } = await check(t, { imds, sts });
  assert.deepEqual({ code, ok, failed: failed(checks) }, { code: 1, ok: false, failed: ['Docker Engine'] });
  assert.match(
    checkOf('Docker Engine').detail,
    /^the Docker Engine at unix:\/\/\/nonexistent\/docker\.sock cannot be used: .*ENOENT/,
  );
  assert.match(checkOf('Docker Engine').advice ?? '', /DOCKER_URL/);
});

test('metadataproxy check: a Docker Engine that answers an error fails', async (t) => {
  const fakes = await startFakes(t);
  fakes.docker.fault('/containers/json', { kind: 'status', status: 500, message: 'no containers today' });
  const { code, checks, checkOf } = await check(t, fakes);
  assert.deepEqual({ code, failed: failed(checks) }, { code: 1, failed: ['Docker Engine'] });
  assert.match(checkOf('Docker Engine').detail, /answered \/containers\/json with 500: .*no containers today/);
});

test('metadataproxy check: reports which IMDS versions answer, and fails if none does', async (t) => {
  const fakes = await startFakes(t);
  fakes.imds.v2Only = true;
  assert.equal((await check(t, fakes)).checkOf('metadata service').detail, 'IMDSv2 only');
  fakes.imds.v2Only = false;
  const noTokens = fakes.imds.fault('/latest/api/token', { kind: 'status', status: 403 });
  const v1 = await check(t, fakes);
  assert.deepEqual(
    [v1.code, v1.checkOf('metadata service').outcome, v1.checkOf('metadata service').detail],
    [0, 'ok', 'IMDSv1 only'],
  );
  fakes.imds.v2Only = true;
  const neither = await check(t, fakes);
  assert.deepEqual(
    [neither.code, failed(neither.checks), neither.checkOf('metadata service').detail],
    [1, ['metadata service'], 'answers neither IMDSv1 nor IMDSv2'],
  );
  noTokens.lift();
  await fakes.imds.stop();
  const none = await check(t, fakes);
  assert.deepEqual([none.code, failed(none.checks)], [1, ['metadata service']]);
  assert.match(none.checkOf('metadata service').detail, /ECONNREFUSED/);
  assert.match(none.checkOf('metadata service').advice ?? '', /METADATA_URL/);
});

test('metadataproxy check: source credentials that AWS refuses fail with the reason', async (t) => {
  const fakes = await startFakes(t);
  fakes.sts.fault({ kind: 'expired-token' });
  const { code, checks, checkOf } = await check(t, fakes, { DEFAULT_ROLE: undefined });
  assert.deepEqual({ code, failed: failed(checks) }, { code: 1, failed: ["the proxy's credentials"] });
  assert.match(checkOf("the proxy's credentials").detail, /ExpiredToken/);
  assert.match(checkOf("the proxy's credentials").advice ?? '', /AWS_ACCESS_KEY_ID/);
});

test('metadataproxy check: missing source credentials fail', async (t) => {
  const fakes = await startFakes(t);
  const { code, checks } = await check(t, fakes, {
    DEFAULT_ROLE: undefined,
    AWS_ACCESS_KEY_ID: undefined,
    AWS_SECRET_ACCESS_KEY: undefined,
  });
  assert.deepEqual({ code, failed: failed(checks) }, { code: 1, failed: ["the proxy's credentials"] });
});

test('metadataproxy check: a default role that cannot be assumed fails', async (t) => {
  const fakes = await startFakes(t);
  fakes.sts.fault({ kind: 'deny' }, arnOf('fallback'));
  const { code, checks, checkOf } = await check(t, fakes);
  assert.deepEqual({ code, failed: failed(checks) }, { code: 1, failed: ['default role'] });
  assert.match(checkOf('default role').detail, /not authorized to perform: sts:AssumeRole/);
  assert.match(checkOf('default role').advice ?? '', /trust policy/);
});

test('metadataproxy check: a default role that ALLOWED_ROLES does not allow fails', async (t) => {
  const fakes = await startFakes(t);
  const { code, checks } = await check(t, fakes, { ALLOWED_ROLES: arnOf('app-*') });
  assert.deepEqual({ code, failed: failed(checks) }, { code: 1, failed: ['default role'] });
});

test('metadataproxy check: no default role is ok', async (t) => {
  const { code, checkOf } = await check(t, await startFakes(t), { DEFAULT_ROLE: undefined });
  assert.equal(code, 0);
  assert.deepEqual(checkOf('default role'), {
    name: 'default role',
    outcome: 'ok',
    detail: 'not set; containers without a role get 404',
  });
});

for (const [what, rules, outcome, detail] of [
  ['a REDIRECT to the port of the proxy', [REDIRECT], 'ok', REDIRECT],
  [
    'a DNAT to the port of the proxy',
    ['-A PREROUTING -d 169.254.169.254/32 -i br-+ -p tcp -j DNAT --to-destination 172.17.0.1:18000'],
    'ok',
    undefined,
  ],
  ['no rule', [], 'failed', 'no rule redirects 169.254.169.254'],
  [
    'a rule to another port',
    [REDIRECT.replace('18000', '8000')],
    'failed',
    `the rule redirects to another port: ${REDIRECT.replace('18000', '8000')}`,
  ],
  [
    'a rule to a longer port',
    [REDIRECT.replace('18000', '180001')],
    'failed',
    `the rule redirects to another port: ${REDIRECT.replace('18000', '180001')}`,
  ],
  [
    'a rule for another address',
    [REDIRECT.replace('169.254.169.254', '169.254.170.2')],
    'failed',
    'no rule redirects 169.254.169.254',
  ],
] as const) {
  test(`metadataproxy check: the firewall with ${what} is ${outcome}`, async (t) => {
    const { code, checkOf } = await check(t, await startFakes(t), { PATH: iptables(t, rules) });
    const { outcome: found, detail: reported } = checkOf('firewall');
    assert.deepEqual({ code, found }, { code: outcome === 'ok' ? 0 : 1, found: outcome });
    assert.equal(reported, detail ?? rules[0]);
  });
}

test('metadataproxy check: the nftables table counts where it redirects', async (t) => {
  const PATH = iptables(t, []);
  const table = `iifname "docker0" ip daddr 169.254.169.254 tcp dport 80 redirect to :18000`;
  writeFileSync(join(PATH.split(':')[0] ?? '', 'nft'), `#!/bin/sh\necho '${table}'\n`, { mode: 0o755 });
  const { checkOf } = await check(t, await startFakes(t), { PATH });
  assert.deepEqual([checkOf('firewall').outcome, checkOf('firewall').detail], ['ok', table]);
});

for (const [status, outcome, detail] of [
  [0, 'ok', 'nft and routing rules: all in place'],
  [1, 'failed', 'missing a; missing b; missing c; and 1 more'],
] as const) {
  test(`metadataproxy check: what the firewall script says counts most (exit status ${status})`, { skip: process.getuid?.() !== 0 }, async (t) => {
    const PATH = iptables(t, [REDIRECT]);
    const says = status === 0 ? `echo '${detail}'` : "printf 'missing a\\nmissing b\\nmissing c\\nmissing d\\n'";
    const asked = `[ "$*" = 'status --proxy-port 18000 --host-network --ecs' ] || exit 3`;
    const script = `#!/bin/sh\n${asked}\n${says}\nexit ${status}\n`;
    writeFileSync(join(PATH.split(':')[0] ?? '', 'metadataproxy-firewall'), script, { mode: 0o755 });
    const { checkOf } = await check(t, await startFakes(t), { PATH, FIREWALL_OPTIONS: '--host-network  --ecs' });
    assert.deepEqual([checkOf('firewall').outcome, checkOf('firewall').detail], [outcome, detail]);
  });
}

test('metadataproxy check says who holds the port', async (t) => {
  const listener = createServer();
  t.after(() => listener.close());
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const { port } = listener.address() as AddressInfo;
  const { checkOf } = await check(t, await startFakes(t), { PORT: String(port) });
  assert.equal(checkOf('port').outcome, 'ok');
  assert.match(checkOf('port').detail, new RegExp(`^user ${process.getuid?.()}, \\w+ \\(PID ${process.pid}\\)$`));
});

test('metadataproxy check: another user that holds the port is a failure', { skip: process.getuid?.() !== 0 }, async (t) => {
  const squatter = spawn(process.execPath, ['-e', "require('net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port) })"], {
    uid: 65534, stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => squatter.kill());
  const [line] = (await once(squatter.stdout, 'data')) as [Buffer];
  const { code, checkOf } = await check(t, await startFakes(t), { PORT: String(line).trim() });
  assert.deepEqual([code, checkOf('port').outcome], [1, 'failed']);
  assert.match(checkOf('port').detail, /belongs to another user: user 65534/);
});

test('metadataproxy check: the firewall must redirect to the port of PORT or --server', async (t) => {
  const fakes = await startFakes(t);
  const PATH = iptables(t, [REDIRECT.replace('18000', '8000')]);
  assert.equal((await check(t, fakes, { PATH, PORT: '8000' })).checkOf('firewall').outcome, 'ok');
  assert.equal((await check(t, fakes, { PATH }, ['--server', ':8000'])).checkOf('firewall').outcome, 'ok');
});

test('metadataproxy check: without iptables, or the right to use it, the firewall is unknown, which is not a failure', async (t) => {
  const fakes = await startFakes(t);
  const missing = await check(t, fakes, { PATH: directory(t) });
  assert.deepEqual(
    [missing.code, missing.checkOf('firewall').outcome, missing.checkOf('firewall').detail],
    [0, 'unknown', 'this host has no iptables'],
  );
  const refused = await check(t, fakes, { PATH: iptables(t, [], 4) });
  assert.deepEqual(
    [refused.code, refused.checkOf('firewall').outcome, refused.checkOf('firewall').detail],
    [0, 'unknown', 'cannot read the iptables rules'],
  );
  assert.match(refused.checkOf('firewall').advice ?? '', /as root/);
});

test('metadataproxy check: invalid settings end it with exit code 2', async () => {
  const { code, stdout, stderr } = await runToEnd({ args: ['check'], env: { PORT: 'x' } });
  assert.deepEqual({ code, stdout }, { code: 2, stdout: '' });
  assert.equal(
    stderr,
    'metadataproxy: PORT: "x" is invalid: expected a whole number from 0 to 65535 (0: any free port)\n',
  );
});

// metadataproxy roles

interface Row {
  readonly name: string;
  readonly id: string;
  readonly image: string;
  readonly addresses: readonly string[];
  readonly role: string | null;
  readonly source: string;
  readonly credentials: string;
  readonly expires: string | null;
  readonly error: string | null;
}

async function rows(options: ProxyOptions): Promise<Row[]> {
  const { code, stdout, stderr } = await runToEnd({ ...options, args: ['roles', '--json'] });
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  return (JSON.parse(stdout) as Row[]).sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function runSome({ docker }: Fakes): Promise<void> {
  await docker.host.run({
    name: 'a-variable',
    image: 'shop/web:1',
    address: A,
    env: { IAM_ROLE: arnOf('app') },
  });
  await docker.host.run({
    name: 'b-label',
    networks: { front: { address: B }, back: { address: C } },
    labels: { 'metadataproxy.role': arnOf('app') },
  });
  await docker.host.run({ name: 'c-default', address: '127.0.0.24' });
  await docker.host.run({ name: 'd-rule', address: '127.0.0.25', env: { IAM_ROLE: arnOf('own') } });
  await docker.host.run({ name: 'e-mistaken', address: '127.0.0.26', env: { IAM_ROLE: 'no role' } });
  const ended = await docker.host.run({
    name: 'f-ended',
    address: '127.0.0.27',
    env: { IAM_ROLE: arnOf('app') },
  });
  docker.host.stop(ended);
}

const SOURCES = [
  ['a-variable', 'variable IAM_ROLE', arnOf('app')],
  ['b-label', 'label metadataproxy.role', arnOf('app')],
  ['c-default', 'default role', arnOf('fallback')],
  ['d-rule', 'rule 1', arnOf('forced')],
  [
    'e-mistaken',
    '"no role" is not a role; expected "name", "name@123456789012", "path/name@123456789012" or a role ARN',
    null,
  ],
];

test('metadataproxy roles: the running proxy\'s rows have the state of the credentials', async (t) => {
  const env = {
    DEFAULT_ROLE: arnOf('fallback'),
    ROLE_RULES: fileWith(t, JSON.stringify([{ match: { name: 'd-*' }, role: arnOf('forced') }])),
  };
  const { docker, imds, sts, proxy, statusFor } = await host(t, {
    env,
    before: ({ sts }) => void sts.fault({ kind: 'deny' }, arnOf('forced')),
  });
  await runSome({ docker, imds, sts });
  for (const address of [A, B, '127.0.0.24', '127.0.0.25']) await statusFor(address);
  // Without Docker, so the proxy must have answered.
  const options = { env: { ADMIN_ADDR: `127.0.0.1:${proxy.adminPort}` } };
  const found = await rows(options);
  assert.deepEqual(
    found.map(({ name, source, role }) => [name, source, role]),
    SOURCES,
  );
  assert.deepEqual(
    found.map(({ credentials }) => credentials),
    ['ready', 'ready', 'ready', 'failing', 'none'],
  );
  const [first] = found;
  assert.equal(first?.image, 'shop/web:1');
  assert.equal(first.id, docker.host.findContainer('a-variable')?.id.slice(0, 12));
  assert.deepEqual(first.addresses, [A]);
  assert.deepEqual([...(found[1]?.addresses ?? [])].sort(), [B, C]);
  assert.match(first.expires ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.match(found[3]?.error ?? '', /not authorized/);

  const { code, stdout } = await runToEnd({ ...options, args: ['roles'] });
  assert.equal(code, 0);
  assert.match(stdout, /^CONTAINER +ID +ADDRESSES +ROLE +FROM +CREDENTIALS$/m);
  assert.match(
    stdout,
    new RegExp(
      `^a-variable +${first.id} +127\\.0\\.0\\.21 +${arnOf('app')} +variable IAM_ROLE +ready until `,
      'm',
    ),
  );
  assert.match(stdout, /^e-mistaken .* - .* none$/m);
  assert.match(stdout, /\(from the running proxy\)\n$/);
});

test('metadataproxy roles: without a proxy the rows come from Docker and the state of the credentials is unknown', async (t) => {
  const fakes = await startFakes(t);
  await runSome(fakes);
  const options = {
    ...fakes,
    env: {
      ADMIN_ADDR: 'off',
      DEFAULT_ROLE: arnOf('fallback'),
      ROLE_RULES: fileWith(t, JSON.stringify([{ match: { name: 'd-*' }, role: arnOf('forced') }])),
    },
  };
  const found = await rows(options);
  assert.deepEqual(
    found.map(({ name, source, role }) => [name, source, role]),
    SOURCES,
  );
  assert.deepEqual(
    found.map(({ credentials }) => credentials),
    ['unknown', 'unknown', 'unknown', 'unknown', 'none'],
  );
  assert.deepEqual([...(found[1]?.addresses ?? [])].sort(), [B, C]);
  assert.deepEqual(fakes.sts.calls.all(), [], 'the command assumes no role');
  const { stdout } = await runToEnd({ ...options, args: ['roles'] });
  assert.match(stdout, /\(from Docker; no proxy answers, so the state of the credentials is unknown\)\n$/);
});

test('metadataproxy roles: the output contains no secret', async (t) => {
  const fakes = await startFakes(t);
  const proxy = await startProxy(t, fakes);
  await proxy.awaitLog('containers known');
  await fakes.docker.host.run({
    name: 'web',
    address: A,
    env: { IAM_ROLE: arnOf('app'), IAM_EXTERNAL_ID: 'the-external-id' },
  });
  await proxy.awaitLog('role assumed');
  const { stdout } = await runToEnd({
    args: ['roles', '--json'],
    env: { ADMIN_ADDR: `127.0.0.1:${proxy.adminPort}` },
  });
  assert.match(stdout, /"ready"/);
  assert.doesNotMatch(stdout, /StandInSecret|StandInToken|the-external-id/);
});

test('metadataproxy roles: without a proxy and Docker it ends with exit code 1 and the reason', async () => {
  const { code, stdout, stderr } = await runToEnd({ args: ['roles'], env: { ADMIN_ADDR: 'off' } });
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
  assert.match(
    stderr,
    /^metadataproxy: the Docker Engine at unix:\/\/\/nonexistent\/docker\.sock cannot be used: .*\n$/,
  );
});

test('metadataproxy roles: invalid settings and rules end it with exit code 2', async (t) => {
  const file = fileWith(t, '{}');
  const broken = await runToEnd({ args: ['roles'], env: { ADMIN_ADDR: 'off', ROLE_RULES: file } });
  assert.deepEqual(
    [broken.code, broken.stderr],
    [2, `metadataproxy: ROLE_RULES: ${file}: not a JSON list of rules\n`],
  );
  const flag = await runToEnd({ args: ['roles', '--nonsense'] });
  assert.equal(flag.code, 2);
  assert.match(flag.stderr, /--nonsense.*; see metadataproxy --help\n$/);
});
