import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { INSTANCE_ID } from '../support/imds.ts';
import { raw } from '../support/proxy.ts';
import { accessKeyIn, host, INSTANCE_ID_PATH, jsonOf, SECURITY_CREDENTIALS, TOKEN_PATH, TTL } from './host.ts';

const { docker, imds, sts, proxy, ask } = await host({ after }, { env: { HOST: '::' } });
const [APP, PLAIN, UNKNOWN, DENIED] = ['127.0.0.11', '127.0.0.12', '127.0.0.99', '127.0.0.13'];
const DENIED_ARN = 'arn:aws:iam::123456789012:role/denied-role';
sts.fault({ kind: 'deny' }, DENIED_ARN);
const app = await docker.host.run({
  name: 'app', address: APP, env: { IAM_ROLE: 'service/app-role@123456789012' },
});
const six = await docker.host.run({ name: 'six', ipv6: '::1', env: { IAM_ROLE: 'service/six-role@210987654321' } });
await docker.host.run({ name: 'plain', address: PLAIN });
await docker.host.run({ name: 'denied', address: DENIED, env: { IAM_ROLE: DENIED_ARN } });

const EXTENDED = SECURITY_CREDENTIALS.replace('credentials/', 'credentials-extended/');
const IMDS_KEYS = ['Code', 'LastUpdated', 'Type', 'AccessKeyId', 'SecretAccessKey', 'Token', 'Expiration'];
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

const CALLERS = [
  { family: 'IPv4', from: APP, role: 'app-role', account: '123456789012', container: app },
  { family: 'IPv6', from: '::1', role: 'six-role', account: '210987654321', container: six },
];

for (const { family, from, role, account, container } of CALLERS) {
  const arn = `arn:aws:iam::${account}:role/service/${role}`;

  test(`${family}: meta-data/iam/ lists info and security-credentials/, with and without the slash`, async () => {
    for (const path of ['/latest/meta-data/iam/', '/latest/meta-data/iam', '/2012-01-12/meta-data/iam/']) {
      const answer = await ask(from, path);
      assert.deepEqual([answer.status, answer.body], [200, 'info\nsecurity-credentials/'], path);
    }
  });

  test(`${family}: meta-data/iam/info has the assumed role's ARN and ID`, async () => {
    const answer = await ask(from, '/latest/meta-data/iam/info');
    assert.equal(answer.status, 200);
    const info = jsonOf(answer);
    assert.deepEqual(Object.keys(info), ['Code', 'LastUpdated', 'InstanceProfileArn', 'InstanceProfileId']);
    const session = `${container.name}-${container.id.slice(0, 12)}`;
    assert.equal(info['Code'], 'Success');
    assert.match(info['LastUpdated'] ?? '', TIME);
    assert.equal(info['InstanceProfileArn'], `arn:aws:sts::${account}:assumed-role/${role}/${session}`);
    assert.match(info['InstanceProfileId'] ?? '', new RegExp(`^AROA\\w+:${session}$`));
  });

  test(`${family}: security-credentials answers the role's bare name, with and without the slash`, async () => {
    for (const path of [SECURITY_CREDENTIALS, SECURITY_CREDENTIALS.slice(0, -1), EXTENDED, EXTENDED.slice(0, -1)]) {
      const answer = await ask(from, path);
      assert.deepEqual([answer.status, answer.body], [200, role], path);
    }
  });

  test(`${family}: security-credentials/{role} answers its credentials as IMDS does`, async () => {
    const answer = await ask(from, SECURITY_CREDENTIALS + role);
    assert.equal(answer.status, 200);
    const credentials = jsonOf(answer);
    assert.deepEqual(Object.keys(credentials), IMDS_KEYS);
    const issued = sts.issuedAs(accessKeyIn(answer));
    assert.equal(issued.call.roleArn, arn);
    assert.equal(credentials['Code'], 'Success');
    assert.equal(credentials['Type'], 'AWS-HMAC');
    assert.equal(credentials['SecretAccessKey'], issued.secretAccessKey);
    assert.equal(credentials['Token'], issued.sessionToken);
    assert.equal(credentials['Expiration'], issued.expiration.toISOString().replace('.000', ''));
    assert.match(credentials['LastUpdated'] ?? '', TIME);
    assert.ok(Date.parse(credentials['LastUpdated'] ?? '') < issued.expiration.getTime() - 3_500_000);
  });

  test(`${family}: whatever follows the role is ignored`, async () => {
    const { body } = await ask(from, SECURITY_CREDENTIALS + role);
    for (const junk of ['/', '//', '/more', '/more/of/it/', '?query', '/%2e', '/x/..']) {
      const answer = await ask(from, SECURITY_CREDENTIALS + role + junk);
      assert.deepEqual([answer.status, answer.body], [200, body], junk);
    }
  });

  test(`${family}: security-credentials-extended/{role} answers the same, with AccountId`, async () => {
    const plain = jsonOf(await ask(from, SECURITY_CREDENTIALS + role));
    for (const path of [EXTENDED + role, `${EXTENDED}${role}/more`]) {
      const answer = await ask(from, path);
      assert.equal(answer.status, 200, path);
      assert.deepEqual(Object.keys(jsonOf(answer)), [...IMDS_KEYS, 'AccountId']);
      assert.deepEqual(jsonOf(answer), { ...plain, AccountId: account });
    }
  });

  test(`${family}: /v2/credentials and below, and /creds, answer in the JSON of the ECS agent`, async () => {
    const plain = jsonOf(await ask(from, SECURITY_CREDENTIALS + role));
    for (const path of ['/v2/credentials', '/v2/credentials/', '/v2/credentials/any/thing', '/creds', '/creds/x']) {
      const answer = await ask(from, path);
      assert.equal(answer.status, 200, path);
      assert.equal(answer.headers['content-type'], 'application/json');
      const { AccessKeyId, SecretAccessKey, Token, Expiration } = plain;
      assert.deepEqual(jsonOf(answer), { RoleArn: arn, AccessKeyId, SecretAccessKey, Token, Expiration });
    }
  });

  test(`${family}: everything else is passed through to the upstream IMDS`, async () => {
    assert.equal((await ask(from, INSTANCE_ID_PATH)).body, INSTANCE_ID);
    assert.equal((await ask(from, '/latest/user-data')).body, imds.userData.toString());
    assert.equal((await ask(from, '/latest/meta-data/nothing')).status, 404);
    assert.match((await ask(from, '/')).body, /^1\.0\n/);
  });

  test(`${family}: PUT /latest/api/token issues a session token that is valid for the credentials`, async () => {
    const token = await ask(from, TOKEN_PATH, { [TTL]: '60' }, 'PUT');
    assert.equal(token.status, 200);
    assert.match(token.body, /^[\w-]{40,}$/);
    const answer = await ask(from, SECURITY_CREDENTIALS, { 'X-aws-ec2-metadata-token': token.body });
    assert.equal(answer.body, role);
  });

  test(`${family}: another role than the caller's is 404`, async () => {
    const others = ['another-role', 'host-role', `${role}x`, role.slice(1), role.toUpperCase(), `service/${role}`, arn];
    for (const other of others) {
      for (const path of [SECURITY_CREDENTIALS + other, EXTENDED + other]) {
        assert.equal((await ask(from, path)).status, 404, path);
      }
    }
  });
}

const CREDENTIAL_PATHS = [
  '/latest/meta-data/iam', '/latest/meta-data/iam/', '/latest/meta-data/iam/info',
  SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app-role`, EXTENDED, `${EXTENDED}app-role`,
  '/v2/credentials', '/v2/credentials/any', '/creds',
];

test('a container without a role is answered 404, and so is an unknown address', async () => {
  for (const from of [PLAIN, UNKNOWN]) {
    const answers = await Promise.all(CREDENTIAL_PATHS.map((path) => ask(from, path)));
    assert.deepEqual(answers.map(({ status }) => status), CREDENTIAL_PATHS.map(() => 404));
  }
});

test('a container without a role, and an unknown address, may read everything else', async () => {
  for (const from of [PLAIN, UNKNOWN]) assert.equal((await ask(from, INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('a container never gets another one\'s role', async () => {
  assert.equal((await ask(APP, `${SECURITY_CREDENTIALS}six-role`)).status, 404);
  assert.equal((await ask('::1', `${SECURITY_CREDENTIALS}app-role`)).status, 404);
});

test('anything else under iam, identity-credentials and security-credentials is 404', async () => {
  const paths = [
    '/latest/meta-data/iam/other', '/latest/meta-data/iam/security-credentials-v2/', '/latest/meta-data/iam/info2',
    '/latest/meta-data/iam-v2/', '/latest/meta-data/identity-credentials/',
    '/latest/meta-data/identity-credentials/ec2/info',
    '/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
    '/latest/meta-data/security-credentials/', '/latest/iam/info', '/iam/', '/latest/dynamic/iam/x',
  ];
  const before = imds.requests.entries.length;
  for (const path of paths) assert.equal((await ask(APP, path)).status, 404, path);
  assert.equal(imds.requests.entries.length, before);
});

test('versions before 2012-01-12 have no iam/, and such a request is never forwarded', async () => {
  const before = imds.requests.entries.length;
  for (const version of ['1.0', '2007-01-19', '2011-05-01', '2012-01-11', 'latest2', 'LATEST', '2012-1-12', 'x']) {
    for (const path of ['iam/', 'iam/info', 'iam/security-credentials/', 'iam/security-credentials/app-role']) {
      assert.equal((await ask(APP, `/${version}/meta-data/${path}`)).status, 404, `${version} ${path}`);
    }
  }
  assert.equal(imds.requests.entries.length, before);
});

test('every version from 2012-01-12 on has iam/', async () => {
  for (const version of ['2012-01-12', '2016-09-02', '2024-04-11', '2031-01-01', 'latest']) {
    assert.equal((await ask(APP, `/${version}/meta-data/iam/security-credentials/`)).body, 'app-role', version);
  }
});

test('HEAD is answered with the head of the GET\'s answer and no body', async () => {
  const paths = [...CREDENTIAL_PATHS, INSTANCE_ID_PATH, '/latest/meta-data/identity-credentials/'];
  for (const path of paths) {
    const [get, head] = [await ask(APP, path), await ask(APP, path, {}, 'HEAD')];
    assert.equal(head.status, get.status, path);
    assert.equal(head.headers['content-length'], String(get.bytes.length), path);
    assert.equal(head.headers['content-type'], get.headers['content-type'], path);
    assert.equal(head.bytes.length, 0, path);
  }
});

test('HEAD does not corrupt the next request on the connection', async () => {
  const line = `HEAD ${SECURITY_CREDENTIALS} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const last = `HEAD ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
  const { responses } = await raw({ port: proxy.port, from: APP, bytes: line + line + last, responses: Infinity });
  assert.deepEqual(responses.map(({ status }) => status), [200, 200, 200]);
});

test('any other method than GET and HEAD is 405 with Allow, and is not forwarded', async () => {
  const before = imds.requests.entries.length;
  const paths = [SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app-role`, '/creds', INSTANCE_ID_PATH, '/'];
  for (const path of paths) {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
      const answer = await ask(APP, path, { 'content-length': '0' }, method);
      assert.equal(answer.status, 405, `${method} ${path}`);
      assert.equal(answer.headers['allow'], 'GET, HEAD');
    }
  }
  assert.equal(imds.requests.entries.length, before);
});

test('the token path has PUT alone: any other method is 405 with Allow: PUT', async () => {
  for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
    const answer = await ask(APP, TOKEN_PATH, { [TTL]: '60', 'content-length': '0' }, method);
    assert.equal(answer.status, 405, method);
    assert.equal(answer.headers['allow'], 'PUT');
  }
});

const BODIES = [
  { what: 'a body is 413', status: 413, framing: 'Content-Length: 5', body: 'hello' },
  { what: 'a body that never comes is 413', status: 413, framing: 'Content-Length: 5', body: '' },
  {
    what: 'a chunked body is 400', status: 400, framing: 'Transfer-Encoding: chunked', body: '5\r\nhello\r\n0\r\n\r\n',
  },
];
for (const { what, status, framing, body } of BODIES) {
  test(`${what}, and the connection is closed`, async () => {
    const before = imds.requests.entries.length;
    for (const line of [`GET ${SECURITY_CREDENTIALS}`, `GET ${INSTANCE_ID_PATH}`, `PUT ${TOKEN_PATH}`]) {
      const bytes = `${line} HTTP/1.1\r\nHost: x\r\n${TTL}: 60\r\n${framing}\r\n\r\n${body}`;
      const { responses, closed } = await raw({ port: proxy.port, from: APP, bytes, responses: Infinity });
      assert.deepEqual(responses.map((response) => response.status), [status], line);
      assert.ok(closed);
    }
    assert.equal(imds.requests.entries.length, before);
  });
}

test('bytes after a refused body are not served as a request', async () => {
  const inner = `GET ${SECURITY_CREDENTIALS}app-role HTTP/1.1\r\nHost: x\r\n\r\n`;
  const bytes = `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc${inner}`;
  const { responses } = await raw({ port: proxy.port, from: APP, bytes, responses: Infinity });
  assert.deepEqual(responses.map(({ status }) => status), [413]);
});

test('a Content-Length of 0 is no body', async () => {
  const answer = await ask(APP, TOKEN_PATH, { [TTL]: '60', 'content-length': '0' }, 'PUT');
  assert.equal(answer.status, 200);
  assert.equal((await ask(APP, INSTANCE_ID_PATH, { 'content-length': '0' })).status, 200);
});

test('the proxy\'s own answers have the Server header EC2ws', async () => {
  const cases = [
    [APP, SECURITY_CREDENTIALS, 'GET'], [APP, `${SECURITY_CREDENTIALS}app-role`, 'GET'], [APP, '/creds', 'GET'],
    [UNKNOWN, SECURITY_CREDENTIALS, 'GET'], [APP, TOKEN_PATH, 'PUT'], [APP, '/latest/%', 'GET'],
    [APP, INSTANCE_ID_PATH, 'POST'], [DENIED, '/creds', 'GET'],
  ] as const;
  for (const [from, path, method] of cases) {
    const { headers } = await ask(from, path, { 'content-length': '0' }, method);
    assert.equal(headers['server'], 'EC2ws', `${method} ${path}`);
    assert.equal(headers['x-powered-by'], 'metadataproxy');
  }
});

test('the texts of IMDS are text/plain', async () => {
  const paths = ['/latest/meta-data/iam/', '/latest/meta-data/iam/info', SECURITY_CREDENTIALS, `${EXTENDED}app-role`];
  for (const path of paths) assert.equal((await ask(APP, path)).headers['content-type'], 'text/plain', path);
});

test('an error has a small page like one of IMDS', async () => {
  const cases = [
    { status: 400, path: '/latest/%zz', method: 'GET', title: '400 - Bad Request' },
    { status: 404, path: '/latest/meta-data/iam/nothing', method: 'GET', title: '404 - Not Found' },
    { status: 405, path: INSTANCE_ID_PATH, method: 'POST', title: '405 - Method Not Allowed' },
    { status: 401, path: INSTANCE_ID_PATH, method: 'GET', title: '401 - Unauthorized', token: 'no-token' },
  ];
  for (const { status, path, method, title, token } of cases) {
    const headers = { 'content-length': '0', ...(token && { 'X-aws-ec2-metadata-token': token }) };
    const answer = await ask(APP, path, headers, method);
    assert.equal(answer.status, status);
    assert.equal(answer.headers['content-type'], 'text/html');
    assert.match(answer.body, /^<\?xml version="1\.0" encoding="iso-8859-1"\?>/);
    assert.ok(answer.body.includes(`<title>${title}</title>`), answer.body);
  }
});

test('a role that STS denies is 403 with Code and Message in JSON, revealing nothing of the host', async () => {
  const paths = [
    `${SECURITY_CREDENTIALS}denied-role`, `${EXTENDED}denied-role`, '/creds', '/v2/credentials/x',
    '/latest/meta-data/iam/info',
  ];
  for (const path of paths) {
    const answer = await ask(DENIED, path);
    assert.equal(answer.status, 403, path);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    assert.equal(jsonOf(answer)['Code'], 'AssumeRoleUnauthorizedAccess');
    assert.doesNotMatch(answer.body, /user\/base|arn:aws/);
  }
});

test('a container whose role is denied can still read the role\'s name', async () => {
  assert.equal((await ask(DENIED, SECURITY_CREDENTIALS)).body, 'denied-role');
});

test('a request target without a canonical path is 400', async () => {
  const targets = [
    '/latest/%', '/latest/%2', '/latest/%gg', '/latest/%2569am/', '/latest/a;b', '/latest/%5cx', '/latest/%00',
    '/latest/%c3%a9', '/latest/%20x', 'latest/meta-data/', '*', 'http://169.254.169.254/latest/meta-data/instance-id',
    `/${'a'.repeat(1_100)}`,
  ];
  for (const target of targets) {
    const bytes = `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
    const { responses } = await raw({ port: proxy.port, from: APP, bytes });
    assert.deepEqual(responses.map(({ status }) => status), [400], target);
  }
});
