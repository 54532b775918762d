// The real @nozbe/watermelondb against a running HealLog, with the code of docs/howto/watermelondb.md.
const assert = require('node:assert/strict')
const { after, before, test } = require('node:test')
const { House } = require('./house')
const { openConflicts, resolve } = require('./page')

const house = new House()

before(() => house.start(), { timeout: 90_000 })
after(() => house.stop())

const PATIENT = { family_name: 'Obi', given_name: 'Ngozi' }
const MEDICATION = { patient_id: 'p', kind: 'medication', title: 'Metformin', dose: 10, dose_unit: 'mg' }

// A clinic with a patient and a prescription, which both devices have.
async function twoDevices() {
  const clinic = await house.clinic()
  const [tablet, phone] = [await clinic.device('tablet'), await clinic.device('phone')]
  await tablet.create('patients', 'p', PATIENT)
  await tablet.create('records', 'm', MEDICATION)
  assert.deepEqual(statuses(await tablet.sync()), { p: 'created', m: 'created' })
  await phone.sync()
  await tablet.sync()
  return { clinic, tablet, phone }
}

const statuses = (results) => Object.fromEntries(results.map(({ id, status }) => [id, status]))

async function quiet(...devices) {
  for (const device of devices) await device.sync()
  for (const device of devices) assert.deepEqual(await device.sync(), [])
  const [first, ...others] = devices
  for (const table of ['patients', 'records', 'conflicts']) {
    for (const other of others) assert.deepEqual(await other.rows(table), await first.rows(table))
  }
}

for (const edit of ['edit', 'plainEdit']) {
  const which = edit === 'edit' ? 'with base tokens' : 'an untouched client'

  test(`${which}: the same dose by two devices is a conflict on both, and neither value is lost`, async () => {
    const { clinic, tablet, phone } = await twoDevices()
    await tablet[edit]('records', 'm', { dose: 20 })
    await phone[edit]('records', 'm', { dose: 15 })
    assert.deepEqual(statuses(await phone.sync()), { m: 'updated' })
    assert.deepEqual(statuses(await tablet.sync()), { m: 'conflict' })
    await quiet(tablet, phone)
    for (const device of [tablet, phone]) {
      const record = await device.find('records', 'm')
      assert.equal(record.dose, 15)
      const conflict = await device.find('conflicts', record.conflict_id)
      const [{ field, base, theirs, mine }] = JSON.parse(conflict.fields_json)
      assert.deepEqual({ field, base, theirs, mine }, { field: 'dose', base: 10, theirs: 15, mine: 20 })
    }
    const { dose } = await clinic.get('/v1/records/m')
    assert.equal(dose, 15)
  })

  test(`${which}: phone and address by two devices are merged on both`, async () => {
    const { clinic, tablet, phone } = await twoDevices()
    const address = { city: 'Ashford', lines: ['14 Mill Lane'] }
    await tablet[edit]('patients', 'p', { phone: '+44 1632 960777' })
    await phone[edit]('patients', 'p', { address_json: JSON.stringify(address) })
    assert.deepEqual(statuses(await phone.sync()), { p: 'updated' })
    assert.deepEqual(statuses(await tablet.sync()), { p: 'merged' })
    await quiet(tablet, phone)
    for (const device of [tablet, phone]) {
      const patient = await device.find('patients', 'p')
      assert.equal(patient.phone, '+44 1632 960777')
      assert.deepEqual(JSON.parse(patient.address_json), address)
      assert.equal(patient.conflict_id, null)
    }
    assert.deepEqual((await clinic.get('/v1/patients/p')).address, address)
  })

  test(`${which}: what a device has seen it may change`, async () => {
    const { tablet, phone } = await twoDevices()
    await phone[edit]('records', 'm', { dose: 15 })
    await phone.sync()
    await tablet.sync()
    await tablet[edit]('records', 'm', { dose: 20 })
    assert.deepEqual(statuses(await tablet.sync()), { m: 'updated' })
    await quiet(tablet, phone)
    assert.equal((await phone.find('records', 'm')).dose, 20)
  })
}

test('a conflict is resolved without a network', async () => {
  const { clinic, tablet, phone } = await twoDevices()
  await tablet.edit('records', 'm', { dose: 20 })
  await phone.edit('records', 'm', { dose: 15 })
  await quiet(phone, tablet)
  const [conflict] = await openConflicts(tablet.database).fetch()
  await tablet.database.write(() => resolve(conflict, { dose: { value: 17.5 } }, 'asked the pharmacy'))
  assert.deepEqual(statuses(await tablet.sync()), { [conflict.id]: 'updated' })
  await quiet(tablet, phone)
  for (const device of [tablet, phone]) {
    assert.deepEqual(await openConflicts(device.database).fetch(), [])
    const record = await device.find('records', 'm')
    assert.deepEqual([record.dose, record.conflict_id], [17.5, null])
  }
  assert.equal((await clinic.get(`/v1/conflicts/${conflict.id}`)).resolution.reason, 'asked the pharmacy')
})

test('a resolution of what has changed since is set aside, and the conflict comes again', async () => {
  const { tablet, phone } = await twoDevices()
  await tablet.edit('records', 'm', { dose: 20 })
  await phone.edit('records', 'm', { dose: 15 })
  await quiet(phone, tablet)
  const [conflict] = await openConflicts(tablet.database).fetch()
  await tablet.database.write(() => resolve(conflict, { dose: { take: 'mine' } }, 'asked the pharmacy'))
  await phone.edit('records', 'm', { title: 'Metformin 500' })
  await phone.sync()
  assert.deepEqual(statuses(await tablet.sync()), { [conflict.id]: 'quarantined' })
  await quiet(tablet, phone)
  const [again] = await openConflicts(tablet.database).fetch()
  assert.deepEqual([again.id, again.resolution_json], [conflict.id, null])
})

test('what is deleted comes as deleted, and an edit of it survives', async () => {
  const { clinic, tablet, phone } = await twoDevices()
  await tablet.edit('records', 'm', { deleted_at: Date.now() })
  assert.deepEqual(statuses(await tablet.sync()), { m: 'updated' })
  await quiet(tablet, phone)
  for (const device of [tablet, phone]) {
    const gone = await device.find('records', 'm')
    assert.deepEqual([typeof gone.deleted_at, gone.title, gone.dose], ['number', null, null])
  }
  const patient = await tablet.find('patients', 'p')
  await tablet.database.write(() => patient.markAsDeleted())
  await phone.edit('patients', 'p', { phone: '1' })
  await phone.sync()
  assert.deepEqual(statuses(await tablet.sync()), { p: 'conflict' })
  await quiet(tablet, phone)
  assert.equal((await tablet.find('patients', 'p')).phone, '1')
  assert.equal((await clinic.get('/v1/conflicts?state=open')).items[0].kind, 'delete_edit')
})

test('what was created and deleted without a network leaves nothing', async () => {
  const clinic = await house.clinic()
  const tablet = await clinic.device('tablet')
  await tablet.sync()
  const patient = await tablet.create('patients', 'p', PATIENT)
  await tablet.database.write(() => patient.markAsDeleted())
  await tablet.sync()
  assert.deepEqual(await tablet.rows('patients'), {})
  assert.deepEqual((await clinic.get('/v1/patients')).items, [])
})

test('an answer that was lost costs nothing, also where more was done since', async () => {
  const { clinic, tablet, phone } = await twoDevices()
  await tablet.edit('records', 'm', { dose: 20 })
  await tablet.create('records', 'n', { patient_id: 'p', kind: 'note', text: 'one' })
  const { fetch } = globalThis
  let pushes = 0
  globalThis.fetch = async (address, request) => {
    const answer = await fetch(address, request)
    if (request.method === 'POST') pushes += 1
    if (pushes === 2) throw new Error('the answer was lost')
    return answer
  }
  await assert.rejects(tablet.sync(), /lost/)
  globalThis.fetch = fetch
  await tablet.edit('records', 'm', { dose: 25 })
  await tablet.edit('records', 'n', { text: 'two' })
  await tablet.sync()
  await quiet(tablet, phone)
  assert.deepEqual([(await phone.find('records', 'm')).dose, (await phone.find('records', 'n')).text], [25, 'two'])
  assert.deepEqual((await clinic.get('/v1/conflicts')).items, [])
  const history = await clinic.get('/v1/records/m/history')
  assert.deepEqual(history.items.map(({ version }) => version), [3, 2, 1])
})

test('the very same push again has one effect and one answer', async () => {
  const { clinic, tablet } = await twoDevices()
  await tablet.edit('records', 'm', { dose: 20 })
  const { fetch } = globalThis
  const answers = []
  globalThis.fetch = async (address, request) => {
    if (request.method === 'POST') answers.push(await (await fetch(address, request)).text())
    const answer = await fetch(address, request)
    if (request.method === 'POST') answers.push(await answer.clone().text())
    return answer
  }
  await tablet.sync()
  globalThis.fetch = fetch
  assert.equal(answers.length, 2)
  assert.equal(answers[0], answers[1])
  assert.equal((await clinic.get('/v1/records/m')).version, 2)
})

test('a device that has seen more than a restored server has goes on', async () => {
  const { tablet, phone } = await twoDevices()
  await phone.edit('records', 'm', { dose: 15 })
  await phone.sync()
  await tablet.edit('records', 'm', { dose: 20 })
  await tablet.database.adapter.setLocal('__watermelon_last_pulled_at', String(Number.MAX_SAFE_INTEGER))
  assert.deepEqual(statuses(await tablet.sync()), { m: 'conflict' })
  await quiet(tablet, phone)
})

test('a table of the app’s own stays at home', async () => {
  const clinic = await house.clinic()
  const schema = await clinic.get('/v1/sync/watermelon/schema')
  const drafts = { name: 'drafts', columns: [{ name: 'note', type: 'string' }] }
  const tablet = await clinic.device('tablet', { ...schema, tables: [...schema.tables, drafts] })
  await tablet.create('drafts', 'd', { note: 'call back' })
  await tablet.create('patients', 'p', PATIENT)
  assert.deepEqual(statuses(await tablet.sync()), { p: 'created' })
  assert.equal((await tablet.find('drafts', 'd')).note, 'call back')
})

test('what can never be done is told, and the server’s state comes back', async () => {
  const { tablet } = await twoDevices()
  await tablet.edit('records', 'm', { dose: -5 })
  await tablet.create('patients', 'q', { phone: '1' })
  const results = await tablet.sync()
  assert.deepEqual(statuses(results), { m: 'quarantined', q: 'quarantined' })
  await tablet.sync()
  assert.equal((await tablet.find('records', 'm')).dose, 10)
  await tablet.edit('patients', 'q', { family_name: 'Obi' })
  const [{ status, flag }] = await tablet.sync()
  assert.deepEqual({ status, flag }, { status: 'created', flag: 'unknown_id' })
})

// A value for every column that people fill, of every kind of record; each is one that a careless client would change.
const EVERYTHING = {
  patients: [
    {
      family_name: 'Ōtani-O\u2019Hára', given_name: 'Yūki \u{1F349}', prefix: '', other_names_json: '["Müller",""]',
      birth_date: '1980-05', sex: 'unknown', species: 'dog', breed: 'Collie', blood_group: 'AB-', deceased: false,
      deceased_at: '2015', identifiers_json: '[{"system":"urn:example","type":"MR","value":"0012"}]', phone: '+44 1632 960110',
      email: 'y@example.org', address_json: '{"city":"Ashford","lines":["14 Mill Lane","\\"The Mill\\""]}',
      telecom_json: '[{"system":"sms","use":"home","value":"1"}]', contacts_json: '[{"name":"Aoi","phone":"2"}]',
      language: 'ja', marital_status: 'M', tags_json: '["a","b, c"]', notes: 'one\ntwo\n',
    },
    { family_name: 'Nobody', deceased: true, tags_json: '[]' },
  ],
  records: [
    {
      kind: 'observation', title: 'Blood pressure', occurred_at: '2024-02-29T10:00:00.000Z', ended_at: '2024-03',
      code_json: '{"code":"85354-9","display":"Blood pressure","system":"http://loinc.org"}', clinical_status: 'final',
      values_json: '{"answer":{"value":true},"pulse":{"comparator":"<","unit":"/min","value":0.1},"why":{"absent":"refused"}}',
      encounter_id: 'enc.1', category: 'vital-signs', interpretation: 'H', body_site: 'left arm', text: 'a\n\nb',
    },
    {
      kind: 'medication', title: 'x', dose: 0, dose_unit: 'mg', route: 'oral', frequency: '1-0-1', as_needed: false,
      instructions: 'with food', quantity: 9007199254740991, remaining: 1e-7, indication: 'fever', tags_json: '["a"]',
    },
    { kind: 'medication', title: 'x', dose: 0.30000000000000004, as_needed: true },
    {
      kind: 'allergy', substance: 'Penicillin', criticality: 'unable_to_assess', severity: 'severe', verification: 'confirmed',
      categories_json: '["medication"]', reactions_json: '["rash"]',
    },
    { kind: 'encounter', title: 'x', encounter_class: 'AMB', complaint: 'cough' },
    { kind: 'immunization', title: 'x', lot_number: '007', dose_number: '2' },
    { kind: 'procedure', title: 'x', outcome: 'good' },
    { kind: 'document', title: 'x', content_type: 'text/plain' },
    { kind: 'report', title: 'x', results_json: '["o.1","o-2"]' },
    { kind: 'care_plan', title: 'x', activities_json: '["walk"]', addresses_json: '["c1"]' },
    { kind: 'goal', title: 'x', target: 'less', achievement: 'in-progress' },
    { kind: 'imaging', title: 'x', modality: 'CT', instances: 3 },
  ],
}

test('what somebody did who has left is handed in, and live when the practice releases it', async () => {
  const { clinic, tablet } = await twoDevices()
  const ben = await clinic.colleague('ben')
  const phone = await ben.device('phone')
  await phone.sync()
  await phone.edit('records', 'm', { dose: 20 })
  await phone.create('patients', 'q', PATIENT)
  await phone.create('records', 'n', { ...MEDICATION, patient_id: 'q' })
  const { account } = await ben.get('/v1/me')
  const left = await fetch(`${house.address}/v1/practice/members/${account.id}`, {
    method: 'DELETE',
    headers: { Authorization: `Bearer ${clinic.token}` },
  })
  assert.equal(left.status, 204)
  await assert.rejects(phone.sync(), /401/)
  assert.deepEqual(statuses(await phone.handIn()), { q: 'quarantined', m: 'quarantined', n: 'quarantined' })
  assert.deepEqual(await phone.handIn(), [])
  const { items } = await clinic.get('/v1/sync/quarantine')
  const became = []
  for (const { id } of items.reverse()) {
    const { token } = clinic
    const { results } = await house.call('POST', `/v1/sync/quarantine/${id}/release`, { token, body: {} })
    became.push(...results)
  }
  assert.deepEqual(statuses(became), { q: 'created', m: 'updated', n: 'created' })
  await tablet.sync()
  assert.equal((await tablet.find('records', 'm')).dose, 20)
  assert.equal((await tablet.find('records', 'n')).patient_id, 'q')
})

test('every column round-trips through the real client', async () => {
  const clinic = await house.clinic()
  const [tablet, phone] = [await clinic.device('tablet'), await clinic.device('phone')]
  const entered = { patients: {}, records: {} }
  for (const [table, rows] of Object.entries(EVERYTHING)) {
    for (const [number, row] of rows.entries()) {
      const id = `${table[0]}${number}`
      entered[table][id] = table === 'records' ? { ...row, patient_id: 'p0' } : row
      await tablet.create(table, id, entered[table][id])
    }
  }
  const results = await tablet.sync()
  assert.deepEqual(results.filter(({ status }) => status !== 'created'), [])
  await quiet(tablet, phone)
  const ours = new Set(['version', 'base_token', 'conflict_id', 'created_at', 'updated_at', 'updated_by', 'deleted_at'])
  for (const name of ['status', 'signed_by', 'signed_at', 'bmi']) ours.add(name)
  for (const { name: table, columns } of tablet.schema.tables.filter(({ name }) => name !== 'conflicts')) {
    const held = await phone.rows(table)
    const filled = new Set()
    for (const [id, row] of Object.entries(entered[table])) {
      for (const { name } of columns.filter(({ name }) => !ours.has(name))) {
        assert.equal(held[id][name], row[name] ?? null, `${table}.${name}`)
        if (row[name] !== undefined) filled.add(name)
      }
      const shown = await clinic.get(`/v1/${table}/${id}`)
      for (const [name, value] of Object.entries(row)) {
        const field = name.replace(/_json$/, '')
        assert.deepEqual(shown[field], field === name ? value : JSON.parse(value), `${table}.${name}`)
      }
    }
    assert.deepEqual(columns.map(({ name }) => name).filter((name) => !ours.has(name) && !filled.has(name)), [])
  }
  // And every one of them can be emptied again.
  const emptied = Object.keys(EVERYTHING.records[1]).filter((name) => !['kind', 'title'].includes(name))
  await phone.edit('records', 'r1', Object.fromEntries(emptied.map((name) => [name, null])))
  assert.deepEqual(statuses(await phone.sync()), { r1: 'updated' })
  await quiet(tablet, phone)
  const row = await tablet.find('records', 'r1')
  assert.deepEqual(emptied.filter((name) => row[name] !== null), [])
})

test('10,000 patients are pushed and synchronised for the first time', { timeout: 300_000 }, async (t) => {
  const clinic = await house.clinic()
  const [tablet, phone] = [await clinic.device('tablet'), await clinic.device('phone')]
  await tablet.sync()
  await tablet.database.write(async () => {
    const table = tablet.database.get('patients')
    const made = Array.from({ length: 10_000 }, (_, number) => {
      return table.prepareCreate((row) => {
        row._raw.id = `p${number}`
        Object.assign(row, { family_name: `Obi ${number}`, birth_date: '1980-05-17', tags_json: '["home visits"]' })
      })
    })
    await tablet.database.batch(made)
  })
  let begun = performance.now()
  assert.equal((await tablet.sync()).filter(({ status }) => status === 'created').length, 10_000)
  t.diagnostic(`pushed in ${Math.round(performance.now() - begun)} ms`)
  begun = performance.now()
  await phone.sync()
  t.diagnostic(`pulled in ${Math.round(performance.now() - begun)} ms`)
  assert.equal(Object.keys(await phone.rows('patients')).length, 10_000)
  await tablet.sync()
  assert.deepEqual(await phone.rows('patients'), await tablet.rows('patients'))
})

test('after a restore a device pushes what it has, empties its database and pulls everything anew', async () => {
  const { clinic, tablet, phone } = await twoDevices()
  await tablet.edit('patients', 'p', { phone: '1' })
  await tablet.edit('records', 'm', { dose: 20 })
  await tablet.create('records', 'n', { patient_id: 'p', kind: 'note', text: 'Well.' })
  await house.restored()
  await phone.edit('records', 'm', { dose: 15 })
  assert.deepEqual(statuses(await phone.sync()), { m: 'updated' })
  // What the server does not tell of any more must not stay: a row that it once sent, and that is not there any more.
  const ghost = { ...(await tablet.find('patients', 'p'))._raw, id: 'ghost', _status: 'synced', _changed: '' }
  await tablet.database.write(() => tablet.database.batch(tablet.database.get('patients').prepareCreateFromDirtyRaw(ghost)))
  assert.deepEqual(Object.keys(await tablet.rows('patients')).sort(), ['ghost', 'p'])
  assert.deepEqual(statuses(await tablet.sync()), { p: 'updated', m: 'conflict', n: 'created' })
  await quiet(tablet, phone)
  assert.deepEqual(Object.keys(await tablet.rows('patients')), ['p'])
  assert.equal((await tablet.find('records', 'n')).text, 'Well.')
  assert.equal((await clinic.get('/v1/patients/p')).phone, '1')
  const { conflict_id: id, dose } = await tablet.find('records', 'm')
  assert.equal(dose, 15)
  const [{ theirs, mine }] = JSON.parse((await tablet.find('conflicts', id)).fields_json)
  assert.deepEqual([theirs, mine], [15, 20])
})
