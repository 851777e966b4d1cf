import { describe, expect, test } from 'vitest';
import { Driver } from './driver.ts';

describe('a failure names the culprit', () => {
  test('a Cloud TPU that exits', () => {
    const driver = new Driver(3).start().skipTo(5).begin(5);
    driver.give({ kind: 'exited', tpu: 1, reason: 'exit code 1' });
    expect(driver.failure()).toMatchObject({
      code: 'worker-exited',
      message: 'Cloud TPU 1 (x 1, y 0), in step 6 of the training, exited: exit code 1',
    });
  });

  test('also among the events of the run, if the run does not recover', () => {
    const driver = new Driver(3).start().skipTo(5).begin(5);
    const actions = driver.give({ kind: 'exited', tpu: 1, reason: 'exit code 1' });
    expect(actions.map(({ kind }) => kind)).toEqual(['note', 'abort', 'failed']);
    expect(actions[0]).toMatchObject({ note: { event: 'lost', tpu: 1, step: 5 } });
  });

  test('but wrong input is not a loss of a Cloud TPU', () => {
    const driver = new Driver(2).start().begin(0);
    const [code, message] = ['bad-data', 'labels: too short'];
    const failed = driver.tell({ kind: 'failed', tpu: 1, generation: 1, code, message });
    expect(failed.map(({ kind }) => kind)).toEqual(['abort', 'failed']);
  });

  test('a Cloud TPU that throws, with the code of a PodError, or worker-threw for other errors', () => {
    const tell = (code: string | null): string => {
      const driver = new Driver(2).start().begin(0);
      driver.tell({ kind: 'failed', tpu: 1, generation: 1, code, message: 'oh' });
      return driver.failure().code;
    };
    expect(tell('link-timeout')).toBe('link-timeout');
    expect(tell(null)).toBe('worker-threw');
    expect(tell('toString')).toBe('worker-threw');
  });

  test('a failed service that all Cloud TPUs share, such as the data loader', () => {
    const driver = new Driver(2).start().begin(0);
    const who = 'the data loader';
    driver.give({ kind: 'service-failed', who, code: 'bad-data', message: 'labels: too short' });
    expect(driver.failure()).toMatchObject({
      code: 'bad-data',
      message: 'the data loader failed: labels: too short',
    });
  });

  test('Cloud TPUs that never start', () => {
    const driver = new Driver(3, 'none');
    driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    driver.now = 5001;
    driver.give({ kind: 'sample', progress: [] });
    expect(driver.failure().message).toBe(
      'Cloud TPU 0 (x 0, y 0), Cloud TPU 2 (x 2, y 0) did not start within 5000 ms',
    );
  });
});
