import type { Container } from '../docker/container.ts';
import type { Events } from '../events.ts';
import type { RequestHistory } from './request-history.ts';
import type { DependencyHealth } from '../log/dependency-health.ts';
import type { RecentErrors } from '../log/recent-errors.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../imds/client.ts';

export interface RequestRecorderOptions {
  requestHistory: RequestHistory;
  /** How the real metadata service does. */
  upstream: DependencyHealth;
  recentErrors: RecentErrors;
  /** The container behind an address, as far as it is known at once. */
  peek: (address: string) => Container | undefined;
}

/** From an answer to what an operator is shown of it. */
export function requestRecorder({ requestHistory, upstream, recentErrors, peek }: RequestRecorderOptions): Events['requestAnswered'] {
  return (exchange, found, failure, seconds) => {
    const { address, began, response } = exchange;
    const container = exchange.container ?? peek(address);
    const at = began + seconds * 1000;
    if (failure === undefined) {
      // Nothing is sent to a caller that has left at once.
      if (found?.kind === 'pass-through' && response.headersSent) upstream.worked();
      requestHistory.record(container, 'served', at, seconds);
      return;
    }
    const error = failure instanceof Error ? failure.message : String(failure);
    const isRefusal = response.statusCode >= 400 && response.statusCode < 500;
    requestHistory.record(container, isRefusal ? 'refused' : 'failed', at, seconds, error);
    if (failure instanceof UpstreamUnreachable || failure instanceof UpstreamTimeout) {
      upstream.failed(error);
      recentErrors.report('warning', 'the metadata service does not answer', '', { error, request_id: exchange.id });
    }
  };
}
