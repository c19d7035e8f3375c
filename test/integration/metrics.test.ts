import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, type Host } from './host.ts';

const A = '127.0.0.41';
const B = '127.0.0.42';
const ACCOUNT = '123456789012';
const PROMETHEUS = { env: { ENABLE_PROMETHEUS: 'true', DEFAULT_ACCOUNT_ID: ACCOUNT } };

type Series = Record<string, string> & { value: string };

/** All series of a metric, with their labels. */
async function scrape({ askOperator }: Host, name: string): Promise<Series[]> {
  const { status, body } = await askOperator('/metrics');
  assert.equal(status, 200);
  return body
    .toString()
    .split('\n')
    .map((line) => /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line))
    .filter((match) => match?.[1] === name)
    .map((match) => {
      const labels = [...(match?.[2] ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, label = '', value = '']) => [label, value]);
      return { ...Object.fromEntries(labels), value: match?.[3] ?? '' } as Series;
    });
}

/** The number of requests with these labels in go-metadataproxy's counter. */
async function counted(at: Host, labels: Record<string, string>): Promise<number> {
  const series = await scrape(at, 'metadataproxy_http_request');
  const matching = series.filter((one) => Object.entries(labels).every(([label, value]) => (one[label] ?? '') === value));
  return matching.reduce((sum, { value }) => sum + Number(value), 0);
}

test("requests are counted under go-metadataproxy's names and labels", async (t) => {
  const at = await host(t, PROMETHEUS);
  await at.docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  for (const path of [SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, `${SECURITY_CREDENTIALS}other`, INSTANCE_ID_PATH]) {
    await at.ask(A, path);
  }
  await at.ask(A, '/2021-07-15/meta-data/iam/info');
  await at.ask(B, SECURITY_CREDENTIALS);
  const role = { role_name: 'app', service: 'go-metadataproxy' };
  const expected: readonly Record<string, string>[] = [
    {
      ...role,
      api_version: 'latest',
      handler_name: 'iam-security-credentials-name',
      request_path: '/meta-data/iam/security-credentials/',
      response_code: '200',
      error_description: '',
    },
    {
      ...role,
      api_version: 'latest',
      handler_name: 'iam-security-crentials-for-role',
      request_path: '/meta-data/iam/security-credentials/{requested_role}',
      response_code: '200',
      error_description: '',
    },
    {
      ...role,
      handler_name: 'iam-security-crentials-for-role',
      response_code: '404',
      error_description: 'role_names_do_not_match',
    },
    { ...role, handler_name: 'passthrough', request_path: INSTANCE_ID_PATH, response_code: '200', error_description: '' },
    { ...role, api_version: '2021-07-15', handler_name: 'iam-info-handler', request_path: '/meta-data/iam/info' },
    {
      handler_name: 'iam-security-credentials-name',
      role_name: '',
      response_code: '404',
      error_description: 'could_not_find_container',
    },
  ];
  for (const labels of expected) assert.equal(await counted(at, labels), 1, JSON.stringify(labels));
  assert.equal(await counted(at, {}), expected.length);
});

test('the upstream IMDS\'s times are in nanoseconds, with the connection time separate', async (t) => {
  const at = await host(t, PROMETHEUS);
  await at.ask(A, INSTANCE_ID_PATH);
  const [whole, request_, connecting] = await Promise.all(
    ['response', 'request', 'connection'].map(async (what) => Number((await scrape(at, `metadataproxy_aws_${what}_time`))[0]?.value)),
  );
  assert.ok(whole !== undefined && whole > 10_000, `${whole} ns`);
  assert.ok(Math.abs(whole - (request_ ?? 0) - (connecting ?? 0)) < 1);
});

test('denied roles, hits and waits are counted separately', async (t) => {
  const at = await host(t, PROMETHEUS);
  at.sts.fault({ kind: 'deny' }, `arn:aws:iam::${ACCOUNT}:role/denied`);
  await at.docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  await at.docker.host.run({ address: B, env: { IAM_ROLE: 'denied' } });
  for (const [address, role] of [[A, 'app'], [A, 'app'], [B, 'denied']] as const) {
    await at.ask(address, SECURITY_CREDENTIALS + role);
  }
  const results = Object.fromEntries(
    (await scrape(at, 'metadataproxy_credential_requests_total')).map(({ result, value }) => [result, Number(value)]),
  );
  assert.equal(results['denied'], 1);
  assert.equal((results['hit'] ?? 0) + (results['waited'] ?? 0), 2);
  assert.deepEqual(
    (await scrape(at, 'metadataproxy_refusals_total')).map(({ reason, value }) => [reason, value]),
    [['denied', '1']],
  );
  assert.equal((await scrape(at, 'metadataproxy_prefetch_lead_seconds_count'))[0]?.value, '1', 'one container had credentials');
  const calls = await scrape(at, 'metadataproxy_sts_calls_total');
  assert.deepEqual(calls.map(({ operation, result }) => `${operation} ${result}`).sort(), ['AssumeRole denied', 'AssumeRole ok']);
});

test('gauges of credentials, Docker and the process are collected at each scrape', async (t) => {
  const at = await host(t, PROMETHEUS);
  const roleArn = `arn:aws:iam::${ACCOUNT}:role/app`;
  await at.docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  await at.ask(A, `${SECURITY_CREDENTIALS}app`);
  const [left] = await scrape(at, 'metadataproxy_credentials_time_to_expiry_seconds');
  assert.equal(left?.['role_arn'], roleArn);
  assert.ok(Number(left?.value) > 3_500 && Number(left?.value) <= 3_600, left?.value);
  const [age] = await scrape(at, 'metadataproxy_credentials_age_seconds');
  assert.ok(Number(age?.value) >= 0 && Number(age?.value) < 100);
  const value = async (name: string): Promise<number> => Number((await scrape(at, name))[0]?.value);
  assert.equal(await value('metadataproxy_containers'), 1);
  assert.equal(await value('metadataproxy_ready'), 1);
  assert.equal(await value('metadataproxy_directory_synced'), 1);
  assert.ok(Math.abs((await value('metadataproxy_directory_last_sync_timestamp_seconds')) - Date.now() / 1000) < 600);
  assert.ok((await value('metadataproxy_docker_event_lag_seconds_count')) > 0);
  assert.ok((await value('process_resident_memory_bytes')) > 1e7);
  assert.ok((await value('process_cpu_seconds_total')) > 0);
  assert.match((await scrape(at, 'metadataproxy_build_info'))[0]?.['node_version'] ?? '', /^v\d/);
});

test("labels and variables of containers, and request headers, become labels; a variable takes precedence over a label", async (t) => {
  const at = await host(t, {
    env: {
      ...PROMETHEUS.env,
      COPY_DOCKER_LABELS: 'PROJECT_VERSION,com.example.Team',
      COPY_DOCKER_ENV: 'PROJECT_VERSION',
      COPY_REQUEST_HEADERS: 'X-Build',
      METRICS_LABELS: 'remote_addr',
    },
  });
  await at.docker.host.run({
    address: A,
    env: { IAM_ROLE: 'app', PROJECT_VERSION: '1' },
    labels: { PROJECT_VERSION: '2', 'com.example.Team': 'shop' },
  });
  await at.ask(A, INSTANCE_ID_PATH, { 'X-Build': 'b7' });
  await at.ask(B, INSTANCE_ID_PATH);
  assert.deepEqual(await scrape(at, 'metadataproxy_http_request'), [
    { remote_addr: A, container_project_version: '1', container_com_example_team: 'shop', header_x_build: 'b7', value: '1' },
    { remote_addr: 'other', value: '1' },
  ]);
});

test("/metrics on the containers' port answers host processes but no container", async (t) => {
  const at = await host(t, PROMETHEUS);
  await at.docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  await at.ask(A, SECURITY_CREDENTIALS); // The container's address is known now.
  assert.equal((await at.ask(A, '/metrics')).status, 404);
  const scraped = await at.ask(B, '/metrics');
  assert.equal(scraped.status, 200);
  assert.match(scraped.body.toString(), /^metadataproxy_build_info\{/m);
  assert.equal(await counted(at, { handler_name: 'metrics', request_path: '/metrics' }), 2);
});

test('without ENABLE_PROMETHEUS /metrics is 404', async (t) => {
  const { ask, askOperator } = await host(t);
  assert.equal((await ask(B, '/metrics')).status, 404);
  assert.equal((await askOperator('/metrics')).status, 404);
});
