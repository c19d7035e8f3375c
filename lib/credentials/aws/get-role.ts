import type { AwsClients } from './clients.ts';
import { AssumeRoleDenied } from '../credentials.ts';
import { BoundedMap } from '../../util/bounded-map.ts';
import type { Clock } from '../../util/clock.ts';
import { makeRoleArn, parseRoleArn, partitionOf, type RoleArn } from '../../roles/role-arn.ts';
import type { RoleReference } from '../../roles/role-reference.ts';

/** A role's account never changes, but it may be deleted and created with another path: ask again after an hour. */
const FOUND_TTL_MS = 60 * 60 * 1000;
/** More roles than any host's containers have. */
const MAX_ANSWERS = 1_000;
/** After this, ask again for an answer that has not arrived. */
const GET_ROLE_TIMEOUT_MS = 30 * 1000;
/** Long enough that ten containers with the same wrong name cause one call, short enough for whoever creates the role. */
const FAILURE_TTL_MS = 10 * 1000;

/**
 * Resolves a reference to the ARN that AssumeRole needs. Only a name without an account takes a call: iam:GetRole finds
 * the roles of the proxy's own account.
 */
export class RoleResolver {
  readonly #clients: AwsClients;
  readonly #clock: Clock;
  readonly #answers = new BoundedMap<string, { role: Promise<RoleArn>; until: number }>(MAX_ANSWERS);

  constructor(clients: AwsClients, clock: Clock) {
    this.#clients = clients;
    this.#clock = clock;
  }

  /** @throws AssumeRoleDenied if IAM has no such role, CredentialsUnavailable if IAM does not answer */
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
