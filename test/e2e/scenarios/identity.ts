import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import {
  AWS_CLI_WITH_IMDSV1, METADATA, ROLE_NAMES, ask, callerIdentity, credentials, refusal, roleName,
} from '../metadata-requests.ts';
import { INSTANCE_ID } from '../host-identity.ts';
import { ACCOUNT, ECS_ADDRESS, type Lab } from '../lab.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** Who a container is: the role that its environment names, and nobody else. */
export function identity(lab: Lab): void {
  describe('the AWS CLI in a container', () => {
    test('is the container\'s own role by IMDSv2, where nothing but IMDSv2 is allowed', async () => {
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

    test('is the container\'s own role by IMDSv1', async () => {
      const spec = { name: 'cli-imdsv1', env: { IAM_ROLE: 'app' } };
      const caller = await callerIdentity(lab, spec, AWS_CLI_WITH_IMDSV1);
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('is the container\'s own role by the ECS door, given a relative URI', async () => {
      const caller = await callerIdentity(lab, {
        name: 'cli-ecs',
        env: {
          IAM_ROLE: 'app', AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/v2/credentials/x', ...WITHOUT_IMDS,
        },
      });
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('is the container\'s own role by the ECS door, given a full URI', async () => {
      const caller = await callerIdentity(lab, {
        name: 'cli-full-uri',
        env: {
          IAM_ROLE: 'app', AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://${ECS_ADDRESS}/creds`, ...WITHOUT_IMDS,
        },
      });
      assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    });

    test('is two different roles in two containers at the same time', async () => {
      const [app, worker] = await Promise.all([
        callerIdentity(lab, { name: 'at-once-app', env: { IAM_ROLE: 'app' } }),
        callerIdentity(lab, { name: 'at-once-worker', env: { IAM_ROLE: 'worker' } }),
      ]);
      assert.equal(app.arn, app.sessionOf('app', ACCOUNT));
      assert.equal(worker.arn, worker.sessionOf('worker', ACCOUNT));
    });

    test('is a role of another account where IAM_ROLE says name@account', async () => {
      const spec = { name: 'cli-elsewhere', env: { IAM_ROLE: 'team/app@222222222222' } };
      const caller = await callerIdentity(lab, spec);
      assert.equal(caller.arn, caller.sessionOf('app', '222222222222'));
    });

    test('finds no credentials in a container without a role', async () => {
      const caller = await callerIdentity(lab, { name: 'cli-nobody' });
      assert.match(caller.arn, /Unable to locate credentials/);
    });
  });

  test('IAM_EXTERNAL_ID reaches STS with the role\'s whole ARN', async () => {
    const roleArn = 'arn:aws:iam::222222222222:role/team/guarded';
    const container = await lab.docker.startIdle('external', {
      IAM_ROLE: roleArn, IAM_EXTERNAL_ID: 'an-external-id',
    });
    const { RoleArn, AccessKeyId } = await credentials(container);
    await container.remove();
    const given = (await lab.sts.call('assumedRoles')).find((role) => role.accessKeyId === AccessKeyId);
    assert.deepEqual([RoleArn, given?.roleArn, given?.externalId], [roleArn, roleArn, 'an-external-id']);
  });

  test('a container without a role gets 404 for credentials, and all other metadata', async () => {
    const container = await lab.docker.startIdle('nobody', {});
    await lab.imds.call('takeRequests');
    for (const url of [ROLE_NAMES, `${ROLE_NAMES}app`, `http://${ECS_ADDRESS}/v2/credentials/x`]) {
      assert.equal(await refusal(container, url), '404', url);
    }
    assert.deepEqual(await lab.imds.call('takeRequests'), [], 'nothing of it was asked of the real service');
    assert.equal(await ask(container, `${METADATA}/instance-id`), INSTANCE_ID);
    assert.match(await ask(container, `${METADATA}/../user-data`), /the user data of the stand-in/);
    await container.remove();
  });

  test('a container without a role gets DEFAULT_ROLE where one is set', async () => {
    await lab.startProxy({ ...STATIC_KEYS, DEFAULT_ROLE: 'fallback', DEFAULT_ACCOUNT_ID: ACCOUNT });
    try {
      const [nobody, app] = await Promise.all([
        lab.docker.startIdle('defaulted', {}), lab.docker.startIdle('not-defaulted', { IAM_ROLE: 'app' }),
      ]);
      assert.deepEqual(await Promise.all([roleName(nobody), roleName(app)]), ['fallback', 'app']);
      await Promise.all([nobody.remove(), app.remove()]);
    } finally {
      await lab.startProxy();
    }
  });

  test('a malformed role is 404 for its container alone, and one log line that names both', async () => {
    const mark = lab.proxy.log.length;
    const container = await lab.docker.startIdle('malformed', { IAM_ROLE: 'not a role!' });
    assert.equal(await refusal(container, ROLE_NAMES), '404');
    const lines = lab.proxy.log.slice(mark)
      .filter((entry) => entry['level'] !== 'debug' && entry['container'] === container.name)
      .map((entry) => JSON.stringify(entry));
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines.join(), /not a role!/);
    await container.remove();
  });
}

/** Leaves the ECS door as the only way to credentials. */
const WITHOUT_IMDS = { AWS_EC2_METADATA_DISABLED: 'true' };
