// The cases that tests/simulation holds its model of the client to: the real client does as they say.
const assert = require('node:assert/strict')
const { test } = require('node:test')
const { played, read, record } = require('./cases')

if (process.env.HEALLOG_RECORD) {
  test('the cases are recorded anew', record)
} else {
  const { schema, cases } = read()
  for (const one of cases) {
    test(one.name, async () => assert.deepEqual(await played({ schema, steps: one.steps }), one.expect))
  }
}
