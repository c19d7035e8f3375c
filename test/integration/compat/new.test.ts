import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { runToEnd } from '../../support/proxy.ts';
import { SETTINGS, type Setting } from '../../../lib/config/settings.ts';
import {
  ACCOUNT,
  arnOf,
  fileWith,
  host,
  isMessage,
  jsonOf,
  POLICY,
  refusal,
  SECURITY_CREDENTIALS,
  until,
} from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const C = '127.0.0.23';
const D = '127.0.0.24';
const BROKEN = 'cannot reload file; keeping the previous version';

// ALLOWED_ROLES

test('ALLOWED_ROLES allows only matching role ARNs', async (t) => {
  const allowed = `${arnOf('app-*')}, ${arnOf('web/*')} arn:aws-cn:iam::*:role/any`;
  const { docker, sts, callFor, statusFor } = await host(t, { env: { ALLOWED_ROLES: allowed } });
  const roles: [role: string, isAllowed: boolean][] = [
    [`app-one@${ACCOUNT}`, true],
    [arnOf('web/two'), true],
    [`web/three@${ACCOUNT}`, true],
    ['arn:aws-cn:iam::111122223333:role/any', true],
    [`app@${ACCOUNT}`, false],
    ['app-one@111122223333', false],
    [arnOf('x/app-one'), false],
    ['arn:aws:iam::111122223333:role/any', false],
    ['arn:aws-cn:iam::111122223333:role/anybody', false],
  ];
  for (const [index, [role, isAllowed]] of roles.entries()) {
    const from = `127.0.1.${index + 1}`;
    await docker.host.run({ address: from, env: { IAM_ROLE: role } });
    if (isAllowed)
      assert.match((await callFor(from)).roleArn ?? '', /:role\/(app-one|web\/two|web\/three|any)$/);
    else assert.equal(await statusFor(from), 403, role);
  }
  assert.equal(sts.assumed().length, 4, 'no role that is not allowed is assumed');
});

test('ALLOWED_ROLES is compared with the ARN from IAM, not with the declared role', async (t) => {
  const { docker, callFor, statusFor } = await host(t, {
    env: { ALLOWED_ROLES: arnOf('team/*') },
    before: ({ sts }) => {
      sts.roleArns.set('inside', arnOf('team/inside'));
      sts.roleArns.set('outside', arnOf('outside'));
    },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'inside' } });
  await docker.host.run({ address: B, env: { IAM_ROLE: 'outside' } });
  assert.equal((await callFor(A)).roleArn, arnOf('team/inside'));
  assert.equal(await statusFor(B), 403);
});

test('ALLOWED_ROLES applies to the default role, too', async (t) => {
  const { docker, statusFor } = await host(t, {
    env: { ALLOWED_ROLES: arnOf('app-*'), DEFAULT_ROLE: arnOf('fallback') },
  });
  await docker.host.run({ address: A });
  assert.equal(await statusFor(A), 403);
});

test('a role that is not allowed is a 403 with Code and Message', async (t) => {
  const { docker, ask } = await host(t, { env: { ALLOWED_ROLES: arnOf('app-*') } });
  await docker.host.run({ name: 'greedy', address: A, env: { IAM_ROLE: arnOf('admin') } });
  const answer = await ask(A, `${SECURITY_CREDENTIALS}admin`);
  assert.equal(answer.status, 403);
  assert.equal(jsonOf(answer)['Code'], 'AssumeRoleUnauthorizedAccess');
  assert.match(jsonOf(answer)['Message'] ?? '', /RoleNotAllowed/);
});

test('a role that is not allowed logs one warning with the container\'s name', async (t) => {
  const { docker, proxy, statusFor } = await host(t, { env: { ALLOWED_ROLES: arnOf('app-*') } });
  await docker.host.run({ name: 'greedy', address: A, env: { IAM_ROLE: arnOf('admin') } });
  for (let count = 0; count < 3; count += 1) await statusFor(A);
  await proxy.logs.several(1, isMessage('credentials refused'));
  const warnings = proxy.logs.all(({ level, text }) => level !== 'info' && text.includes(arnOf('admin')));
  assert.deepEqual(
    warnings.map(({ level }) => level),
    ['warning'],
  );
  assert.match(warnings[0]?.text ?? '', /greedy/);
});

test('without ALLOWED_ROLES and ROLE_RULES a container gets any role that STS allows', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('admin') } });
  assert.equal((await callFor(A)).roleArn, arnOf('admin'));
});

// ROLE_RULES

test('ROLE_RULES matches image, name, network and label; the first match applies', async (t) => {
  const rules = [
    {
      match: {
        image: 'registry.example.com/shop/*',
        name: 'web-?',
        network: 'front',
        label: { team: 'shop' },
      },
      role: arnOf('all-four'),
    },
    { match: { image: 'registry.example.com/shop/*' }, role: arnOf('by-image') },
    { match: { name: 'backup' }, role: arnOf('by-name') },
    { match: { network: 'back*' }, role: arnOf('by-network') },
    { match: { label: { team: '*' } }, role: arnOf('by-label') },
    { role: arnOf('rest') },
  ];
  const { docker, callFor } = await host(t, { env: { ROLE_RULES: fileWith(t, JSON.stringify(rules)) } });
  const image = 'registry.example.com/shop/web:1.2';
  const containers: [role: string, options: Parameters<typeof docker.host.run>[0]][] = [
    [
      'all-four',
      { image, name: 'web-1', networks: { front: { address: '127.0.2.1' } }, labels: { team: 'shop' } },
    ],
    [
      'by-image',
      { image, name: 'web-12', networks: { front: { address: '127.0.2.2' } }, labels: { team: 'shop' } },
    ],
    [
      'by-image',
      { image, name: 'web-2', networks: { front: { address: '127.0.2.3' } }, labels: { team: 'shops' } },
    ],
    [
      'by-image',
      { image, name: 'web-3', networks: { other: { address: '127.0.2.4' } }, labels: { team: 'shop' } },
    ],
    ['by-name', { name: 'backup', networks: { back: { address: '127.0.2.5' } } }],
    ['by-network', { name: 'backup-2', networks: { front: { address: '127.0.2.6' }, backend: {} } }],
    ['by-label', { labels: { team: '' }, address: '127.0.2.7' }],
    ['rest', { labels: { teams: 'x' }, address: '127.0.2.8' }],
  ];
  for (const [index, [role, options]] of containers.entries()) {
    await docker.host.run({ ...options, env: { IAM_ROLE: arnOf('own') } });
    assert.equal((await callFor(`127.0.2.${index + 1}`)).roleArn, arnOf(role));
  }
});

test('ROLE_RULES: "role" overrides the declared role, "default_role" applies only without one', async (t) => {
  const rules = [
    { match: { name: 'forced*' }, role: 'forced@prod' },
    { match: { name: 'free*' }, default_role: 'rule-default@prod' },
  ];
  const { docker, callFor } = await host(t, {
    env: {
      ROLE_RULES: fileWith(t, JSON.stringify(rules)),
      AWS_ACCOUNT_MAP: `{"prod": "${ACCOUNT}"}`,
      DEFAULT_ROLE: arnOf('fallback'),
    },
  });
  await docker.host.run({ name: 'forced-1', address: A, env: { IAM_ROLE: arnOf('own') } });
  await docker.host.run({ name: 'free-1', address: B, env: { IAM_ROLE: arnOf('own') } });
  await docker.host.run({ name: 'free-2', address: C });
  await docker.host.run({ name: 'other', address: D });
  assert.equal((await callFor(A)).roleArn, arnOf('forced'));
  assert.equal((await callFor(B)).roleArn, arnOf('own'));
  assert.equal((await callFor(C)).roleArn, arnOf('rule-default'));
  assert.equal((await callFor(D)).roleArn, arnOf('fallback'));
});

test('ROLE_RULES: "allow" lists the only allowed roles; an empty list allows none', async (t) => {
  const rules = [
    { match: { name: 'shop*' }, allow: [arnOf('shop-*'), arnOf('common')] },
    { match: {}, allow: [] },
  ];
  const { docker, callFor, statusFor } = await host(t, {
    env: { ROLE_RULES: fileWith(t, JSON.stringify(rules)) },
  });
  await docker.host.run({ name: 'shop-1', address: A, env: { IAM_ROLE: arnOf('shop-web') } });
  await docker.host.run({ name: 'shop-2', address: B, env: { IAM_ROLE: arnOf('admin') } });
  await docker.host.run({ name: 'other', address: C, env: { IAM_ROLE: arnOf('shop-web') } });
  assert.equal((await callFor(A)).roleArn, arnOf('shop-web'));
  assert.equal(await statusFor(B), 403);
  assert.equal(await statusFor(C), 403);
});

test('ROLE_RULES: "policy" replaces the container\'s session policy', async (t) => {
  const rules = [{ match: { name: 'bound' }, policy: JSON.parse(POLICY) as unknown }];
  const { docker, callFor } = await host(t, { env: { ROLE_RULES: fileWith(t, JSON.stringify(rules)) } });
  const own = '{"Statement":{"Effect":"Allow","Resource":"*","Action":"*"}}';
  await docker.host.run({ name: 'bound', address: A, env: { IAM_ROLE: arnOf('app'), IAM_POLICY: own } });
  await docker.host.run({ name: 'free', address: B, env: { IAM_ROLE: arnOf('app'), IAM_POLICY: own } });
  assert.deepEqual(JSON.parse((await callFor(A)).policy ?? ''), JSON.parse(POLICY));
  assert.deepEqual(JSON.parse((await callFor(B)).policy ?? ''), JSON.parse(own));
});

test('a role must be allowed by both ALLOWED_ROLES and ROLE_RULES', async (t) => {
  const rules = [
    { match: { name: 'forced' }, role: arnOf('admin') },
    { allow: [arnOf('*-web'), arnOf('admin')] },
  ];
  const { docker, callFor, statusFor } = await host(t, {
    env: { ALLOWED_ROLES: arnOf('shop-*'), ROLE_RULES: fileWith(t, JSON.stringify(rules)) },
  });
  await docker.host.run({ name: 'both', address: A, env: { IAM_ROLE: arnOf('shop-web') } });
  await docker.host.run({ name: 'setting', address: B, env: { IAM_ROLE: arnOf('shop-job') } });
  await docker.host.run({ name: 'rule', address: C, env: { IAM_ROLE: arnOf('admin') } });
  await docker.host.run({ name: 'forced', address: D });
  assert.equal((await callFor(A)).roleArn, arnOf('shop-web'));
  assert.deepEqual([await statusFor(B), await statusFor(C), await statusFor(D)], [403, 403, 403]);
});

test('a container without permission for a role does not get another container\'s credentials of it', async (t) => {
  const rules = [{ match: { name: 'trusted' } }, { allow: [arnOf('nothing')] }];
  const { docker, sts, callFor, statusFor, ask } = await host(t, {
    env: { SESSION_NAME: 'shared', ROLE_RULES: fileWith(t, JSON.stringify(rules)) },
  });
  await docker.host.run({ name: 'trusted', address: A, env: { IAM_ROLE: arnOf('admin') } });
  assert.equal((await callFor(A)).roleArn, arnOf('admin'));
  await docker.host.run({ name: 'other', address: B, env: { IAM_ROLE: arnOf('admin') } });
  assert.equal(await statusFor(B), 403);
  assert.equal((await ask(B, `${SECURITY_CREDENTIALS}admin`)).status, 403);
  assert.equal((await callFor(A)).roleArn, arnOf('admin'));
  assert.equal(sts.assumed().length, 1);
});

const REFUSED_RULES: readonly (readonly [rules: unknown, reason: string])[] = [
  [{}, 'not a JSON list of rules'],
  [[{ allowed: [] }], 'rule 1: unknown key "allowed" in a rule; expected match, allow, role, default_role, policy'],
  [[{}, { match: { images: 'x' } }], 'rule 2: unknown key "images" in "match"; expected image, name, network, label'],
  [[{ match: { name: 5 } }], 'rule 1: "name" is not a non-empty string'],
  [[{ match: { label: { team: true } } }], 'rule 1: the label "team" is not a non-empty string'],
  [[{ allow: arnOf('x') }], 'rule 1: "allow" is not a list of role ARNs'],
  [
    [{ allow: ['app-*'] }],
    'rule 1: "app-*" matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*',
  ],
  [
    [{ role: 'a role' }],
    'rule 1: "a role" is not a role; expected "name", "name@123456789012", "path/name@123456789012" or a role ARN',
  ],
  [[{ default_role: '' }], 'rule 1: "default_role" is not a non-empty string'],
  [[{ policy: 'x' }], 'rule 1: the session policy is not a JSON object with a "Statement"'],
];

for (const [rules, reason] of REFUSED_RULES) {
  test(`a ROLE_RULES of ${JSON.stringify(rules)} ends the program: ${reason}`, async (t) => {
    const file = fileWith(t, JSON.stringify(rules));
    assert.deepEqual(await refusal({ env: { ROLE_RULES: file } }), {
      code: 2,
      lines: [`metadataproxy: ROLE_RULES: ${file}: ${reason}`],
    });
  });
}

// A typing error must not turn a rule into one that matches every container.
for (const rules of [
  [{ match: 'web-*', role: arnOf('admin') }],
  [{ match: ['web-*'], role: arnOf('admin') }],
  [{ match: null, role: arnOf('admin') }],
  [{ match: { label: 'team=shop' }, role: arnOf('admin') }],
  [{ match: { label: ['team'] }, role: arnOf('admin') }],
  ['a text', { allow: [] }],
  [null, { allow: [] }],
  [[], { allow: [] }],
]) {
  test(`a ROLE_RULES of ${JSON.stringify(rules)} ends the program`, async (t) => {
    // If the rules were accepted, this address, which the host does not have, would end the program with exit code 1.
    const { code, lines } = await refusal({
      env: { ROLE_RULES: fileWith(t, JSON.stringify(rules)), HOST: '192.0.2.1' },
    });
    assert.match(lines.join('\n'), /^metadataproxy: ROLE_RULES: .*rule 1: /);
    assert.equal(code, 2);
  });
}

test('ROLE_RULES is read again on SIGHUP and applies to running containers', async (t) => {
  const file = fileWith(t, JSON.stringify([{ default_role: arnOf('before') }]));
  const { docker, proxy, sts, callFor, statusFor } = await host(t, { env: { ROLE_RULES: file } });
  await docker.host.run({ address: A });
  await docker.host.run({ name: 'own', address: B, env: { IAM_ROLE: arnOf('own') } });
  assert.equal((await callFor(A)).roleArn, arnOf('before'));
  assert.equal((await callFor(B)).roleArn, arnOf('own'));
  writeFileSync(
    file,
    JSON.stringify([{ match: { name: 'own' }, allow: [] }, { default_role: arnOf('after') }]),
  );
  proxy.reload();
  await proxy.awaitLog('file reloaded');
  assert.equal((await callFor(A)).roleArn, arnOf('after'));
  assert.equal(await statusFor(B), 403, 'what was obtained before is not handed out any more');
  assert.equal(sts.assumed(arnOf('own')).length, 1);
});

test('ROLE_RULES is read again when it changes', async (t) => {
  const file = fileWith(t, JSON.stringify([{ default_role: arnOf('before') }]));
  const { docker, proxy, callFor } = await host(t, { env: { ROLE_RULES: file } });
  await docker.host.run({ address: A });
  assert.equal((await callFor(A)).roleArn, arnOf('before'));
  writeFileSync(file, JSON.stringify([{ default_role: arnOf('after') }]));
  const { fields } = await proxy.awaitLog('file reloaded');
  assert.equal(fields['setting'], 'ROLE_RULES');
  assert.equal((await callFor(A)).roleArn, arnOf('after'));
});

test('after an invalid change of ROLE_RULES the previous version stays in force, and the log has the reason', async (t) => {
  const file = fileWith(t, JSON.stringify([{ allow: [arnOf('app')] }]));
  const { docker, proxy, callFor, statusFor } = await host(t, { env: { ROLE_RULES: file } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('other') } });
  for (const [text, reason] of [
    ['[{]', /^not JSON \(/],
    ['[{"alow": []}]', /^rule 1: unknown key "alow" in a rule; /],
  ] as const) {
    writeFileSync(file, text);
    proxy.reload();
    // The proxy also watches the file, and may read it while it is being written.
    const { msg, level, fields } = await proxy.logs.first((line) =>
      reason.test(String(line.fields['error'])),
    );
    assert.deepEqual([msg, level, fields['setting'], fields['path']], [BROKEN, 'error', 'ROLE_RULES', file]);
    assert.equal((await callFor(A)).roleArn, arnOf('app'));
    assert.equal(await statusFor(B), 403);
  }
});

// Labels

test('metadataproxy.role takes precedence over iam-docker\'s label and IAM_ROLE', async (t) => {
  const { docker, callFor, ask } = await host(t);
  const iamDocker = { 'com.swipely.iam-docker.iam-profile': arnOf('iam-docker') };
  await docker.host.run({
    address: A,
    labels: { 'metadataproxy.role': `label@${ACCOUNT}`, ...iamDocker },
    env: { IAM_ROLE: arnOf('variable') },
  });
  await docker.host.run({
    address: B,
    labels: { 'metadataproxy.role': ' ' },
    env: { IAM_ROLE: arnOf('variable') },
  });
  assert.equal((await callFor(A)).roleArn, arnOf('label'));
  assert.equal((await ask(A, SECURITY_CREDENTIALS)).body, 'label');
  assert.equal((await callFor(B)).roleArn, arnOf('variable'));
});

test('the labels external-id, policy, session-name and duration configure the session', async (t) => {
  const { docker, callFor } = await host(t, {
    env: { ROLE_DURATION: '1h', ROLE_SESSION_KEY: 'Env:SERVICE' },
  });
  await docker.host.run({
    address: A,
    labels: {
      'metadataproxy.role': arnOf('app'),
      'metadataproxy.external-id': 'label-id',
      'metadataproxy.policy': POLICY,
      'metadataproxy.session-name': 'a label',
      'metadataproxy.duration': '2h',
    },
    env: {
      IAM_ROLE: arnOf('x'),
      IAM_EXTERNAL_ID: 'variable-id',
      IAM_POLICY: '{"Statement":[]}',
      SERVICE: 'a-variable',
    },
  });
  const { roleArn, externalId, policy, roleSessionName, durationSeconds } = await callFor(A);
  assert.deepEqual(
    { roleArn, externalId, roleSessionName, durationSeconds },
    {
      roleArn: arnOf('app'),
      externalId: 'label-id',
      roleSessionName: 'a_label',
      durationSeconds: 7200,
    },
  );
  assert.deepEqual(JSON.parse(policy ?? ''), JSON.parse(POLICY));
});

for (const [label, value, error] of [
  [
    'metadataproxy.role',
    'no role',
    '"no role" is not a role; expected "name", "name@123456789012", "path/name@123456789012" or a role ARN',
  ],
  [
    'metadataproxy.duration',
    '5m',
    'the label metadataproxy.duration is "5m"; expected a duration from 15m to 12h',
  ],
  [
    'metadataproxy.external-id',
    'a b',
    'STS does not accept the external ID; expected ^[\\w+=,.@:/-]{2,1224}$',
  ],
  ['metadataproxy.policy', '[]', 'the session policy is not a JSON object with a "Statement"'],
] as const) {
  test(`an invalid label ${label} is 404 only for its container and one log line`, async (t) => {
    const { docker, proxy, statusFor } = await host(t);
    await docker.host.run({
      name: 'mistaken',
      address: A,
      env: { IAM_ROLE: arnOf('app') },
      labels: { [label]: value },
    });
    await docker.host.run({ name: 'good', address: B, env: { IAM_ROLE: arnOf('app') } });
    assert.equal(await statusFor(A), 404);
    assert.equal(await statusFor(A), 404);
    assert.equal(await statusFor(B), 200);
    await proxy.logs.several(1, isMessage('credentials refused'));
    const lines = proxy.logs.all(isMessage('invalid role request'));
    assert.deepEqual(
      lines.map(({ level, fields }) => [level, fields['container'], fields['error']]),
      [['error', 'mistaken', error]],
    );
  });
}

// IGNORE_IMAGE_ROLES

const IMAGES = [
  {
    what: 'ENV',
    image: { name: 'with-env', env: { IAM_ROLE: arnOf('of-image'), IAM_EXTERNAL_ID: 'of-image' } },
    own: { env: { IAM_ROLE: arnOf('own') } },
  },
  {
    what: 'LABEL',
    image: { name: 'with-label', labels: { 'metadataproxy.role': arnOf('of-image') } },
    own: { labels: { 'metadataproxy.role': arnOf('own') } },
  },
  {
    what: 'LABEL for iam-docker',
    image: { name: 'with-label', labels: { 'com.swipely.iam-docker.iam-profile': arnOf('of-image') } },
    own: { env: { IAM_ROLE: arnOf('own') } },
  },
];

for (const { what, image, own } of IMAGES) {
  test(`IGNORE_IMAGE_ROLES: a role in the image's ${what} is ignored`, async (t) => {
    const { docker, callFor, statusFor } = await host(t, {
      env: { IGNORE_IMAGE_ROLES: 'true' },
      before: ({ docker: engine }) => void engine.host.addImage(image),
    });
    await docker.host.run({ image: image.name, address: A });
    await docker.host.run({ image: image.name, address: B, ...own });
    assert.equal(await statusFor(A), 404);
    const { roleArn, externalId } = await callFor(B);
    assert.deepEqual({ roleArn, externalId }, { roleArn: arnOf('own'), externalId: undefined });
  });

  test(`without IGNORE_IMAGE_ROLES a role in the image's ${what} applies`, async (t) => {
    const { docker, callFor } = await host(t, {
      before: ({ docker: engine }) => void engine.host.addImage(image),
    });
    await docker.host.run({ image: image.name, address: A });
    assert.equal((await callFor(A)).roleArn, arnOf('of-image'));
  });
}

test('IGNORE_IMAGE_ROLES: a container of a removed image gets the default role', async (t) => {
  const { docker, callFor } = await host(t, {
    env: { IGNORE_IMAGE_ROLES: 'true', DEFAULT_ROLE: arnOf('fallback') },
  });
  docker.fault(/^\/images\//, { kind: 'status', status: 404 });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('own') } });
  assert.equal((await callFor(A)).roleArn, arnOf('fallback'));
});

// Session names

test('the session name is {container name}-{short id}, truncated to 64 characters without losing the ID', async (t) => {
  const { docker, callFor } = await host(t);
  const plain = await docker.host.run({ name: 'web.1_x-y', address: A, env: { IAM_ROLE: arnOf('app') } });
  const long = await docker.host.run({ name: 'n'.repeat(100), address: B, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await callFor(A)).roleSessionName, `web.1_x-y-${plain.id.slice(0, 12)}`);
  assert.equal((await callFor(B)).roleSessionName, `${'n'.repeat(51)}-${long.id.slice(0, 12)}`);
});

test('SESSION_NAME=shared makes one session and one STS call per role and host', async (t) => {
  const { docker, sts, callFor } = await host(t, { env: { SESSION_NAME: 'shared' } });
  for (const address of [A, B, C]) await docker.host.run({ address, env: { IAM_ROLE: arnOf('app') } });
  for (const address of [A, B, C]) {
    assert.equal(
      (await callFor(address)).roleSessionName,
      `metadataproxy-${hostname()}`.replace(/[^\w+=,.@-]/g, '_').slice(0, 64),
    );
  }
  assert.equal(sts.assumed().length, 1);
});

test('SESSION_NAME may be a template with {container.name}, {container.id}, {image}, {host}, {label:X} and {env:X}', async (t) => {
  const template = '{label:com.example.team}={env:STAGE},{container.name}.{container.id}@{image}+{host}';
  const { docker, callFor } = await host(t, { env: { SESSION_NAME: template } });
  const { id } = await docker.host.run({
    name: 'web',
    image: 'a/b:c',
    address: A,
    env: { IAM_ROLE: arnOf('app'), STAGE: 'prod' },
    labels: { 'com.example.team': 'shop' },
  });
  const expected = `shop=prod,web.${id.slice(0, 12)}@a_b_c+${hostname()}`
    .replace(/[^\w+=,.@-]/g, '_')
    .slice(0, 64);
  assert.equal((await callFor(A)).roleSessionName, expected);
});

test('a SESSION_NAME template with a result below 2 characters gives the default name', async (t) => {
  const { docker, callFor } = await host(t, { env: { SESSION_NAME: '{label:team}' } });
  const { id } = await docker.host.run({
    name: 'web',
    address: A,
    env: { IAM_ROLE: arnOf('app') },
    labels: { team: 'x' },
  });
  assert.equal((await callFor(A)).roleSessionName, `web-${id.slice(0, 12)}`);
});

// Tags and source identity

test('SESSION_TAGS turns labels and variables into session tags and omits missing ones', async (t) => {
  const { docker, callFor } = await host(t, { env: { SESSION_TAGS: 'Labels:team,stage Env:SERVICE' } });
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: arnOf('app'), SERVICE: 'billing' },
    labels: { team: 'a shop', other: 'x' },
  });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app') } });
  const [tagged, untagged] = [await callFor(A), await callFor(B)];
  assert.deepEqual([tagged.tags, tagged.transitiveTagKeys], [{ team: 'a shop', SERVICE: 'billing' }, []]);
  assert.deepEqual([untagged.tags, untagged.transitiveTagKeys], [{}, []]);
});

test('SESSION_TAGS_TRANSITIVE makes the session tags transitive', async (t) => {
  const { docker, callFor } = await host(t, {
    env: { SESSION_TAGS: 'Labels:team,stage', SESSION_TAGS_TRANSITIVE: 'true' },
  });
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: arnOf('app') },
    labels: { team: 'shop', stage: 'prod' },
  });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app') } });
  assert.deepEqual((await callFor(A)).transitiveTagKeys, ['team', 'stage']);
  assert.deepEqual((await callFor(B)).transitiveTagKeys, []);
});

test('containers with one role and different session tags do not share credentials', async (t) => {
  const { docker, callFor } = await host(t, { env: { SESSION_TAGS: 'Labels:team', SESSION_NAME: 'shared' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') }, labels: { team: 'shop' } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app') }, labels: { team: 'bank' } });
  assert.deepEqual((await callFor(A)).tags, { team: 'shop' });
  assert.deepEqual((await callFor(B)).tags, { team: 'bank' });
});

test('an invalid session tag is 404 for its container and one log line', async (t) => {
  const { docker, proxy, statusFor } = await host(t, { env: { SESSION_TAGS: 'Labels:team' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') }, labels: { team: 'a{b' } });
  assert.equal(await statusFor(A), 404);
  const { fields } = await proxy.awaitLog('invalid role request');
  assert.match(String(fields['error']), /^"a\{b", the value of "team", is not a valid session tag; /);
});

test('SOURCE_IDENTITY is a template of the source identity', async (t) => {
  const { docker, callFor } = await host(t, { env: { SOURCE_IDENTITY: '{label:owner}' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') }, labels: { owner: 'jo@example.com' } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await callFor(A)).sourceIdentity, 'jo@example.com');
  assert.equal((await callFor(B)).sourceIdentity, undefined);
});

test('an invalid source identity is 404 for its container, because a corrected one would be another identity', async (t) => {
  const { docker, sts, statusFor } = await host(t, { env: { SOURCE_IDENTITY: '{label:owner}' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') }, labels: { owner: 'jo smith' } });
  assert.equal(await statusFor(A), 404);
  assert.deepEqual(sts.assumed(), []);
});

// Duration

test('ROLE_DURATION is the lifetime of credentials', async (t) => {
  const { docker, callFor, ask } = await host(t, { env: { ROLE_DURATION: '12h' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await callFor(A)).durationSeconds, 43_200);
  const { Expiration = '', LastUpdated = '' } = jsonOf(await ask(A, `${SECURITY_CREDENTIALS}app`));
  assert.ok(Date.parse(Expiration) - Date.parse(LastUpdated) > 11.9 * 3_600_000);
});

for (const [what, message] of [
  [
    "exceeds the role's maximum",
    'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.',
  ],
  [
    'exceeds the hour of role chaining',
    'The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.',
  ],
] as const) {
  test(`a ROLE_DURATION that ${what} becomes 1 hour, with one warning`, async (t) => {
    const { docker, sts, proxy, callFor } = await host(t, { env: { ROLE_DURATION: '4h' } });
    sts.fault(
      { kind: 'error', status: 400, code: 'ValidationError', message },
      ({ roleArn, durationSeconds = 0 }) => roleArn === arnOf('short') && durationSeconds > 3600,
    );
    for (const address of [A, B]) {
      await docker.host.run({ address, env: { IAM_ROLE: arnOf('short') } });
      assert.ok([undefined, 3600].includes((await callFor(address)).durationSeconds));
    }
    await docker.host.run({ address: C, env: { IAM_ROLE: arnOf('long') } });
    assert.equal((await callFor(C)).durationSeconds, 14_400);
    // STS refuses it once; then the proxy remembers.
    assert.deepEqual(
      sts.assumed(arnOf('short')).map(({ durationSeconds }) => (durationSeconds ?? 3600) > 3600),
      [true, false, false],
    );
    await proxy.logs.several(3, isMessage('credentials served'));
    const warnings = proxy.logs.all(({ level }) => level === 'warning');
    assert.deepEqual(
      warnings.map(({ msg, fields }) => [msg, fields['role_arn'], fields['seconds']]),
      [['the role allows no session that long; it gets 1 hour', arnOf('short'), 14_400]],
    );
  });
}

test('a ROLE_DURATION above 12 hours or below 15 minutes ends the program with exit code 2', async () => {
  for (const duration of ['13h', '10m', '3600']) {
    assert.deepEqual(await refusal({ env: { ROLE_DURATION: duration } }), {
      code: 2,
      lines: [
        `metadataproxy: ROLE_DURATION: "${duration}" is invalid: expected a duration from 15m to 12h`,
      ],
    });
  }
});

// Network modes

test('--network container:X has the role of X', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({ name: 'x', address: A, env: { IAM_ROLE: arnOf('of-x') } });
  await docker.host.run({
    name: 'joiner',
    networkMode: 'container:x',
    env: { IAM_ROLE: arnOf('of-joiner') },
  });
  assert.equal((await callFor(A)).roleArn, arnOf('of-x'));
});

test('--network container:X: if only the peer declares a role, it applies to X, too, while the peer runs', async (t) => {
  const { docker, callFor } = await host(t, { env: { DEFAULT_ROLE: arnOf('fallback') } });
  await docker.host.run({ name: 'x', address: A });
  assert.equal((await callFor(A)).roleArn, arnOf('fallback'));
  await docker.host.run({
    name: 'joiner',
    networkMode: 'container:x',
    env: { IAM_ROLE: arnOf('of-joiner') },
  });
  await until(
    () => callFor(A),
    ({ roleArn }) => roleArn === arnOf('of-joiner'),
  );
  docker.host.remove('joiner');
  await until(
    () => callFor(A),
    ({ roleArn }) => roleArn === arnOf('fallback'),
  );
});

test('a container with an IPv6 address gets its role over IPv6', async (t) => {
  const { docker, callFor } = await host(t, { env: { HOST: '::' } });
  await docker.host.run({ ipv6: '0:0:0:0:0:0:0:1', env: { IAM_ROLE: arnOf('six') } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('four') } });
  assert.equal((await callFor('::1')).roleArn, arnOf('six'));
  assert.equal((await callFor(A)).roleArn, arnOf('four'));
});

// --help

test('--help is at most 80 columns wide and lists every variable and flag', async () => {
  const { code, stdout, stderr } = await runToEnd({ args: ['--help'] });
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  assert.deepEqual(
    stdout.split('\n').filter((line) => line.length > 80),
    [],
  );
  const words = new Set(stdout.split(/[\s,]+/));
  const settings: Setting<unknown>[] = Object.values(SETTINGS);
  for (const { env, flag } of settings) {
    for (const name of env) assert.ok(words.has(name), name);
    if (!flag) continue;
    for (const name of [flag.name, ...(flag.aliases ?? [])]) assert.ok(words.has(`--${name}`), name);
    if (flag.short) assert.ok(words.has(`-${flag.short}`), flag.short);
  }
  const groups = [...new Set(settings.map(({ group }) => group))];
  assert.deepEqual(
    stdout.split('\n').filter((line) => groups.some((group) => group === line)),
    groups,
  );
});
