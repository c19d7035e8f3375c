/** Where systemd puts the first socket that it passes on (sd_listen_fds(3)). */
const FIRST_FD = 3;

/**
 * The listening socket that the service manager holds for this process: with metadataproxy.socket the port is never free
 * for others while the proxy restarts. The variables that announce it are removed, so that no child believes them.
 *
 * @returns its file descriptor; undefined when none was passed to this process
 */
export function inheritedSocket(env: NodeJS.ProcessEnv, pid: number): number | undefined {
  const { LISTEN_PID, LISTEN_FDS } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  // A process that inherited the variables of its parent has another number.
  if (LISTEN_PID !== String(pid) || !/^[1-9]\d*$/.test(LISTEN_FDS ?? '')) return undefined;
  return FIRST_FD;
}
