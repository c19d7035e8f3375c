import { send, type Exchange, type Handler } from '../exchange.ts';
import { Refusal } from '../errors.ts';

/**
 * The metrics on the containers' port, where go-metadataproxy has them: for scrapers on this host, not for containers.
 *
 * @param expose the metrics in the format of an Accept header; undefined where Prometheus is not enabled
 * @param isHost whether an address is one of the host itself
 */
export function metrics(
  expose: ((accept: string) => { readonly type: string; readonly text: string }) | undefined,
  isHost: (address: string) => boolean,
): Handler {
  return (exchange: Exchange) => {
    const { address, request } = exchange;
    if (!expose || !isHost(address)) {
      throw new Refusal(404, 'not_metrics', 'metrics are only served to scrapers on this host');
    }
    const { type, text } = expose(request.headers.accept ?? '');
    send(exchange, { status: 200, type, body: text });
  };
}
