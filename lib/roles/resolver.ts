import type { AwsClients } from '../credentials/aws/clients.ts';
import { AssumeRoleDenied } from '../credentials/credentials.ts';
import { BoundedMap } from '../util/bounded-map.ts';
import type { Clock } from '../util/clock.ts';
import { makeRoleArn, parseRoleArn, partitionOf, type RoleArn } from './role-arn.ts';
import type { RoleReference } from './role-reference.ts';

/** A role's account never changes; an hour notices one that was deleted and made anew with another path. */
const FOUND_TTL_MS = 60 * 60 * 1000;
/** More roles than any host's containers have. */
const MAX_ANSWERS = 1_000;
/** One that does not come is asked for again. */
const GET_ROLE_TIMEOUT_MS = 30 * 1000;
/** Long enough that ten containers with the same wrong name ask once, short enough for whoever mends it. */
const FAILURE_TTL_MS = 10 * 1000;

/**
 * From a reference to the ARN that AssumeRole needs. Only a name without an account has to be asked for: iam:GetRole
 * finds the roles of the proxy's own account.
 */
export class RoleResolver {
  readonly #clients: AwsClients;
  readonly #clock: Clock;
  readonly #answers = new BoundedMap<string, { role: Promise<RoleArn>; until: number }>(MAX_ANSWERS);

  constructor(clients: AwsClients, clock: Clock) {
    this.#clients = clients;
    this.#clock = clock;
  }

  /** @throws AssumeRoleDenied when IAM knows no such role, CredentialsUnavailable when it cannot be asked now */
  async resolve(reference: RoleReference): Promise<RoleArn> {
    switch (reference.kind) {
      case 'arn':
        return reference.role;
      case 'account':
        return makeRoleArn(
          partitionOf(await this.#clients.region()),
          reference.accountId,
          reference.path,
          reference.name,
        );
      case 'name':
        return this.#lookUp(reference.path, reference.name);
    }
  }

  #lookUp(path: string, name: string): Promise<RoleArn> {
    const key = path + name;
    const known = this.#answers.get(key);
    if (known && this.#clock.monotonic() < known.until) return known.role;
    const answer = { role: this.#ask(path, name), until: this.#clock.monotonic() + GET_ROLE_TIMEOUT_MS };
    this.#answers.set(key, answer);
    answer.role.then(
      () => (answer.until = this.#clock.monotonic() + FOUND_TTL_MS),
      () => (answer.until = this.#clock.monotonic() + FAILURE_TTL_MS),
    );
    return answer.role;
  }

  async #ask(path: string, name: string): Promise<RoleArn> {
    const role = parseRoleArn(await this.#getRoleArn(name));
    if (!role) throw new AssumeRoleDenied('NoSuchEntity', `IAM answered GetRole for "${name}" without an ARN`);
    if (path !== '/' && path !== role.path) {
      throw new AssumeRoleDenied('NoSuchEntity', `the role "${name}" has the path "${role.path}", not "${path}"`);
    }
    return role;
  }

  #getRoleArn(name: string): Promise<string> {
    return this.#clients.call('GetRole', async () => {
      const client = await this.#clients.iam();
      const { GetRoleCommand } = await import('#sdk');
      const { Role } = await client.send(new GetRoleCommand({ RoleName: name }));
      return Role?.Arn ?? '';
    });
  }
}
