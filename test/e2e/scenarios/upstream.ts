import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { METADATA, ask, credentials } from '../metadata-requests.ts';
import { HOST_ACCESS_KEY, INSTANCE_ID } from '../host-identity.ts';
import { IMDS_ADDRESS, type Lab } from '../lab.ts';

/** The upstream IMDS. */
export function upstream(lab: Lab): void {
  test('on an IMDSv2-only host with a hop limit of 1, containers get metadata with and without a token', async () => {
    await lab.imds.call('requireTokens', true);
    await lab.limitHops(true);
    try {
      const container = await lab.docker.startIdle('behind-imdsv2', { IAM_ROLE: 'app' });
      assert.equal(await ask(container, `${METADATA}/instance-id`), INSTANCE_ID);

      const token = await container.exec('/bin/sh', '-c', putToken(60));
      assert.notEqual(token, '');
      assert.equal(
        await ask(container, `${METADATA}/instance-id`, `X-aws-ec2-metadata-token: ${token}`), INSTANCE_ID,
      );
      await container.remove();
    } finally {
      await lab.limitHops(false);
      await lab.imds.call('requireTokens', false);
    }
  });

  test('without static keys the proxy\'s source credentials are the instance profile\'s', async () => {
    await lab.startProxy({});
    try {
      const container = await lab.docker.startIdle('by-profile', { IAM_ROLE: 'app' });
      const { AccessKeyId } = await credentials(container);
      const given = await lab.assumedRole(AccessKeyId);
      assert.equal(given?.signedBy, HOST_ACCESS_KEY);
      await container.remove();
    } finally {
      await lab.startProxy();
    }
  });
}

/** A shell line that gets a session token. busybox's wget has no PUT, so nc sends the request. */
function putToken(seconds: number): string {
  const request = [
    'PUT /latest/api/token HTTP/1.1', `Host: ${IMDS_ADDRESS}`, 'Connection: close', 'Content-Length: 0',
    `X-aws-ec2-metadata-token-ttl-seconds: ${seconds}`,
  ];
  const lines = request.map((line) => `'${line}'`).join(' ');
  return `printf '%s\\r\\n' ${lines} '' | timeout 5 nc ${IMDS_ADDRESS} 80 | tail -n 1`;
}
