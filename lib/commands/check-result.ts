export interface CheckResult {
  readonly name: string;
  /** `unknown` if the check could not run. Neither that nor a warning fails the report. */
  readonly outcome: 'ok' | 'warning' | 'failed' | 'unknown';
  readonly detail: string;
  /** The next step. */
  readonly advice?: string;
}
