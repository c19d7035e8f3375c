/**
 * Which owner has which address. Pure and synchronous; an owner is any object.
 *
 *   owner → network → addresses    as the engine assigned them
 *   address → owners               derived from that at each change
 *
 * Two owners can have one address only where network drivers allow that (on different networks). Then the address
 * identifies neither, and `soleOwner` is undefined. On one network the engine assigns an address to a second owner only
 * after the first one has left, so the newer owner replaces the older, whose removal may be reported later.
 *
 * A claim (a label's, see container.ts) never counts beside an assignment, and an assigned address cannot be claimed.
 */

/** Stands for a network in which a claim is kept; neither engine allows parentheses in a network's name or id. */
const CLAIMED = '(claimed)';

const NONE: readonly never[] = [];

export class AddressTable<Owner> {
  readonly #networks = new Map<Owner, Map<string, readonly string[]>>();
  readonly #owners = new Map<string, readonly Owner[]>();

  owners(address: string): readonly Owner[] {
    return this.#owners.get(address) ?? NONE;
  }

  soleOwner(address: string): Owner | undefined {
    const owners = this.#owners.get(address);
    return owners?.length === 1 ? owners[0] : undefined;
  }

  addressesOf(owner: Owner): string[] {
    return [...(this.#networks.get(owner)?.values() ?? [])].flat();
  }

  hasAddresses(owner: Owner): boolean {
    return this.#networks.has(owner);
  }

  isOn(owner: Owner, network: string): boolean {
    return this.#networks.get(owner)?.has(network) ?? false;
  }

  isClaim(owner: Owner, address: string): boolean {
    return this.#on(owner, CLAIMED).includes(address);
  }

  /** The owner has these addresses on a network, and no other ones there. */
  set(owner: Owner, network: string, addresses: readonly string[]): void {
    const networks = this.#networks.get(owner) ?? new Map<string, readonly string[]>();
    const before = networks.get(network) ?? NONE;
    if (addresses.length > 0) networks.set(network, addresses);
    else networks.delete(network);
    if (networks.size > 0) this.#networks.set(owner, networks);
    else this.#networks.delete(owner);
    for (const address of new Set([...before, ...addresses])) this.#update(address, owner, network);
  }

  /** Removes what the engine assigned; a claim stays. */
  removeAssigned(owner: Owner): void {
    for (const network of this.#networksOf(owner)) if (network !== CLAIMED) this.set(owner, network, []);
  }

  /** Removes all addresses and claims of the owner. */
  remove(owner: Owner): void {
    for (const network of this.#networksOf(owner)) this.set(owner, network, []);
  }

  /** @returns whether the owner got the address: it does not if the address has an owner already */
  claim(owner: Owner, address: string): boolean {
    if (this.#owners.has(address)) return false;
    this.set(owner, CLAIMED, [address]);
    return true;
  }

  /** Derives an address's owners again after `changed` got or lost it on a network. */
  #update(address: string, changed: Owner, network: string): void {
    const has = this.#has(changed, address);
    const others = this.owners(address).filter(
      (other) => other !== changed && !(has && this.#on(other, network).includes(address)),
    );
    const owners = has ? [...others, changed] : others;
    const assigned = owners.filter((owner) => this.#has(owner, address, CLAIMED));
    const counting = assigned.length > 0 ? assigned : owners;
    if (counting.length > 0) this.#owners.set(address, counting);
    else this.#owners.delete(address);
  }

  /** On any network except one. */
  #has(owner: Owner, address: string, except?: string): boolean {
    for (const [network, addresses] of this.#networks.get(owner) ?? []) {
      if (network !== except && addresses.includes(address)) return true;
    }
    return false;
  }

  #on(owner: Owner, network: string): readonly string[] {
    return this.#networks.get(owner)?.get(network) ?? NONE;
  }

  #networksOf(owner: Owner): string[] {
    return [...(this.#networks.get(owner)?.keys() ?? [])];
  }
}
