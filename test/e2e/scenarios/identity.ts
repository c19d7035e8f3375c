import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import {
  AWS_CLI_WITH_IMDSV1, METADATA, ROLE_NAMES, ask, callerIdentity, credentials, refusal, roleName,
} from '../metadata-requests.ts';
import { INSTANCE_ID } from '../host-identity.ts';
import { ACCOUNT, ECS_ADDRESS, type Lab } from '../lab.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** A container has the role that its environment declares, and no other. */
export function identity(lab: Lab): void {
  describe('the AWS CLI in a container', () => {
    test('gets the container\'s role over IMDSv2 while IMDSV2_REQUIRED is set', async () => {
      await lab.startProxy({ ...STATIC_KEYS, IMDSV2_REQUIRED: 'true' });
      try {
        const caller = await callerIdentity(lab, { name: 'cli-imdsv2', env: { IAM_ROLE: 'app' } });
        assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
        const idle = await lab.docker.startIdle('token-less', { IAM_ROLE: 'app' });
        assert.equal(await refusal(idle, ROLE_NAMES), '401');
        await idle.remove();
      } finally {
        await lab.startProxy();
      }
    });

    test('gets the container\'s role over IMDSv1', async () => {
      const spec = { name: 'cli-imdsv1', env: { IAM_ROLE: 'app' } };
      const caller = await callerIdentity(lab, spec, AWS_CLI_WITH_IMDSV1);
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('gets the container\'s role from the ECS-style endpoint with a relative URI', async () => {
      const caller = await callerIdentity(lab, {
        name: 'cli-ecs',
        env: {
          IAM_ROLE: 'app', AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/v2/credentials/x', ...WITHOUT_IMDS,
        },
      });
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('gets the container\'s role from the ECS-style endpoint with a full URI', async () => {
      const caller = await callerIdentity(lab, {
        name: 'cli-full-uri',
        env: {
          IAM_ROLE: 'app', AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://${ECS_ADDRESS}/creds`, ...WITHOUT_IMDS,
        },
      });
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('gets two different roles in two concurrent containers', async () => {
      const [app, worker] = await Promise.all([
        callerIdentity(lab, { name: 'concurrent-app', env: { IAM_ROLE: 'app' } }),
        callerIdentity(lab, { name: 'concurrent-worker', env: { IAM_ROLE: 'worker' } }),
      ]);
      assert.equal(app.arn, app.sessionOf('app', ACCOUNT));
      assert.equal(worker.arn, worker.sessionOf('worker', ACCOUNT));
    });

    test('gets a role in another account with IAM_ROLE=name@account', async () => {
      const spec = { name: 'cli-elsewhere', env: { IAM_ROLE: 'team/app@222222222222' } };
      const caller = await callerIdentity(lab, spec);
      assert.equal(caller.arn, caller.sessionOf('app', '222222222222'));
    });

    test('finds no credentials in a container without a role', async () => {
      const caller = await callerIdentity(lab, { name: 'cli-no-role' });
      assert.match(caller.arn, /Unable to locate credentials/);
    });
  });

  test('IAM_EXTERNAL_ID is sent to STS with the role\'s full ARN', async () => {
    const roleArn = 'arn:aws:iam::222222222222:role/team/guarded';
    const container = await lab.docker.startIdle('external', {
      IAM_ROLE: roleArn, IAM_EXTERNAL_ID: 'an-external-id',
    });
    const { RoleArn, AccessKeyId } = await credentials(container);
    await container.remove();
    const given = await lab.assumedRole(AccessKeyId);
    assert.deepEqual([RoleArn, given?.roleArn, given?.externalId], [roleArn, roleArn, 'an-external-id']);
  });

  test('a container without a role gets 404 for credentials, and other metadata passes through', async () => {
    const container = await lab.docker.startIdle('no-role', {});
    await lab.imds.call('takeRequests');
    for (const url of [ROLE_NAMES, `${ROLE_NAMES}app`, `http://${ECS_ADDRESS}/v2/credentials/x`]) {
      assert.equal(await refusal(container, url), '404', url);
    }
    assert.deepEqual(await lab.imds.call('takeRequests'), [], 'no request was forwarded');
    assert.equal(await ask(container, `${METADATA}/instance-id`), INSTANCE_ID);
    assert.match(await ask(container, `${METADATA}/../user-data`), /the user data of the lab/);
    await container.remove();
  });

  test('a container without a role gets DEFAULT_ROLE', async () => {
    await lab.startProxy({ ...STATIC_KEYS, DEFAULT_ROLE: 'fallback', DEFAULT_ACCOUNT_ID: ACCOUNT });
    try {
      const [withoutRole, app] = await Promise.all([
        lab.docker.startIdle('defaulted', {}), lab.docker.startIdle('not-defaulted', { IAM_ROLE: 'app' }),
      ]);
      assert.deepEqual(await Promise.all([roleName(withoutRole), roleName(app)]), ['fallback', 'app']);
      await Promise.all([withoutRole.remove(), app.remove()]);
    } finally {
      await lab.startProxy();
    }
  });

  test('an invalid role is 404 only for its container, and one log line names both', async () => {
    const mark = lab.proxy.log.length;
    const container = await lab.docker.startIdle('malformed', { IAM_ROLE: 'not a role!' });
    assert.equal(await refusal(container, ROLE_NAMES), '404');
    // At info there is also the refusal that it caused.
    const lines = lab.proxy.log.slice(mark)
      .filter(({ level, container: name }) => level !== 'debug' && level !== 'info' && name === container.name)
      .map((entry) => JSON.stringify(entry));
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines.join(), /not a role!/);
    await container.remove();
  });
}

/** Leaves the ECS-style endpoint as the only source of credentials. */
const WITHOUT_IMDS = { AWS_EC2_METADATA_DISABLED: 'true' };
