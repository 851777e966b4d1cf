import { expect, test } from 'vitest';
import { Driver, done } from './driver.ts';

test('a failure names the Cloud TPUs whose weights differ from the majority', () => {
  const driver = new Driver(3).start().skipTo(2).begin(2);
  driver.tell(done(0, 2));
  driver.tell(done(1, 2, 'ffffffffffffffff'));
  driver.tell(done(2, 2));
  expect(driver.failure()).toMatchObject({
    code: 'digest-mismatch',
    message:
      'step 3 of the training differs: Cloud TPU 1 (x 1, y 0) ended with weights ffffffffffffffff; 2 others have 00112233445566aa',
  });
  expect(driver.count('commit')).toBe(2);
});
