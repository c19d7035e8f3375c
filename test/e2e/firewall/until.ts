/** Polls a condition. One that does not hold in 20 s is an error, unless another time is given. */
export async function until(holds: () => boolean | Promise<boolean>, { orAfterMs = 0 } = {}): Promise<void> {
  const started = performance.now();
  while (!(await holds())) {
    const waited = performance.now() - started;
    if (orAfterMs > 0 && waited > orAfterMs) return;
    if (waited > 20_000) throw new Error(`after 20 s this does not hold: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
