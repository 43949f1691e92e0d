//! What expressions mean and what is wrong with them.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::{Value as Json, json};
use skep_api::custom::Structural;
use skep_cel::{Decl, Env, Program, Type, Value};

fn env(schema: Json) -> (Env, Arc<Decl>) {
    let schema = Structural::parse(&schema).expect("a schema");
    let decl = Decl::of(&schema, true, "self").expect("a declaration");
    (Env::new().with("self", decl.clone()), decl)
}

fn sample() -> (Env, Arc<Decl>, Json) {
    let (env, decl) = env(json!({"type": "object", "properties": {
        "int": {"type": "integer"}, "text": {"type": "string"}, "when": {"type": "string", "format": "date-time"},
        "took": {"type": "string", "format": "duration"}, "bytes": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": true}, "set": {"type": "array", "x-kubernetes-list-type": "set",
        "items": {"type": "string"}}, "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "a.b-c/d": {"type": "string"}, "namespace": {"type": "string"}, "maybe": {"type": "string", "nullable": true},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "nested": {"type": "object", "properties": {"x": {"type": "integer"}}}}}));
    let value = json!({"int": 5, "text": "Grüezi", "when": "2011-08-18T19:03:37.01+01:00", "took": "1h2m3s", "bytes": "QUI=",
        "port": "80", "set": ["a", "b"], "map": {"one": 1, "two": 2}, "a.b-c/d": "odd", "namespace": "here", "maybe": null,
        "any": {"thing": 1}, "nested": {"x": 1}, "kind": "Sample", "metadata": {"name": "me"}});
    (env, decl, value)
}

#[test]
fn true_statements() {
    let (env, decl, value) = sample();
    for text in [
        // Numbers.
        "1 + 2 * 3 == 7 && 7 / 2 == 3 && -7 % 3 == -1 && 2u + 3u == 5u && 1.5 * 2.0 == 3.0",
        "1 < 1.5 && 2u > 1 && dyn(1) == 1.0 && dyn(1) == 1u && int('7') == 7 && uint(3.9) == 3u && double('1e3') == 1000.0",
        "-9223372036854775808 < 0 && 0xff == 255 && 1e3 == 1000.0 && .5 == 0.5",
        // What fails does not matter beside what decides.
        "false && 1 / 0 == 1 ? false : true",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        "[1, 0].exists(x, 1 / x == 1) && ![0, 2].all(x, 1 / x == 1)",
        // Texts.
        "'a' + 'b' == 'ab' && 'tacocat'.substring(1, 4) == 'aco' && 'é'.size() == 1 && b'é'.size() == 2",
        "'hello'.charAt(5) == '' && 'hello'.indexOf('l', 3) == 3 && 'hello'.lastIndexOf('l') == 3 && 'aXbX'.split('X') == ['a', 'b', '']",
        "'  a '.trim() == 'a' && ['a', 'b'].join('-') == 'a-b' && 'abc'.replace('b', '') == 'ac' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'",
        "'%s %d %.2f %x %b %%'.format(['a', 1, 1.005, 255, 5]) == 'a 1 1.00 ff 101 %'",
        "'%s'.format([[1, 'a', duration('1m'), {'k': 1.5}]]) == '[1, \"a\", duration(\"60s\"), {\"k\":1.500000}]'",
        "'x' in ['x'] && 'one' in self.map && !('six' in self.map) && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        r"'\x41\u0042\103' == 'ABC' && r'\d' == '\\d' && '''a'b''' == 'a\'b' && b'\xff'.size() == 1",
        "'abc'.matches('^a.c$') && 'abc 123'.find('[0-9]+') == '123' && '1 22 3'.findAll('[0-9]+', 2) == ['1', '22']",
        // Times.
        "self.when.getHours() == 18 && self.when.getHours('+01:00') == 19 && self.when.getFullYear('US/Central') == 2011",
        "self.took == duration('3723s') && self.took.getMinutes() == 62 && string(duration('1500ms')) == '1.5s'",
        "timestamp('2000-01-01T00:00:00Z') + duration('24h') == timestamp('2000-01-02T00:00:00Z')",
        "timestamp('2000-03-01T00:00:00Z').getDayOfYear() == 60 && timestamp('2000-01-01T00:00:00Z').getDayOfWeek() == 6",
        "int(timestamp(1)) == 1 && string(self.when) == '2011-08-18T19:03:37.01+01:00'",
        // Objects.
        "self.int == 5 && self.text == 'Grüezi' && self.bytes == b'AB' && type(self.port) == string && self.port == '80'",
        "self.a__dot__b__dash__c__slash__d == 'odd' && self.__namespace__ == 'here' && self.namespace == 'here'",
        "!has(self.maybe) && has(self.nested.x) && self.kind == 'Sample' && self.metadata.name == 'me'",
        "self.set == ['b', 'a'] && self.set + ['a', 'c'] == ['c', 'b', 'a'] && self.map == {'two': 2, 'one': 1}",
        "self.nested == self.nested && self.any == self.any && type(self.nested) == map",
        // Collections.
        "self.map.all(k, self.map[k] > 0) && self.map.exists_one(k, k == 'one') && self.map.map(k, k) == ['one', 'two']",
        "[1, 2, 3].filter(x, x > 1).map(x, x * 2) == [4, 6] && [1, 2, 3].map(x, x > 1, x) == [2, 3]",
        "[1, 2].transformMap(i, v, v * 2) == {0: 2, 1: 4} && {'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'}",
        "self.map.transformList(k, v, v > 1, k) == ['two'] && [3, 4].exists(i, v, i == 1 && v == 4)",
        "[1, 2, 2].distinct() == [1, 2] && [[1], [2, 3]].flatten() == [1, 2, 3] && [1, 2].reverse() == [2, 1]",
        "['b', 'a'].sort() == ['a', 'b'] && ['bb', 'a'].sortBy(s, s.size()) == ['a', 'bb'] && [1, 2].sum() == 3",
        "[3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].isSorted() && ['a', 'b'].indexOf('b') == 1 && [1].first().value() == 1",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
        "[1u].sum() == 1u && [1.5].filter(x, false).sum() == 0.0 && {1: 'a'}[1] == 'a' && {'a': {'b': 1}}.a.b == 1",
        // Optionals.
        "self.?text.orValue('') == 'Grüezi' && !self.?maybe.hasValue() && self.map[?'six'].orValue(6) == 6 && [1][?5] == optional.none()",
        "optional.of(1).optMap(x, x + 1).value() == 2 && optional.none().or(optional.of(2)).orValue(0) == 2",
        "[?optional.none(), ?optional.of(1)] == [1] && {?'a': optional.none()}.size() == 0 && optional.ofNonZeroValue('') == optional.none()",
        // Kubernetes.
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').add(20) == quantity('50020') && !isQuantity('1x')",
        "quantity('2').asInteger() == 2 && !quantity('1.5').isInteger() && quantity('-1').sign() == -1 ? true : true",
        "ip('::1').isLoopback() && ip('10.0.0.1').family() == 4 && !isIP('::ffff:1.2.3.4') && ip.isCanonical('2001:db8::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16')) && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "!isCIDR('10.0.0.0/33') && cidr('::/0').prefixLength() == 0 && string(cidr('10.0.0.1/8')) == '10.0.0.1/8'",
        "url('https://user@example.com:80/a%20b?k=1&k=2#f').getHost() == 'example.com:80' && url('https://[::1]:8/').getHostname() == '::1'",
        "url('https://example.com/a%20b').getEscapedPath() == '/a%20b' && url('/p?k=1&k=2').getQuery() == {'k': ['1', '2']} && !isURL('../x') && !isURL('http://a:b/')",
        "semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10')) && semver('v1.01', true).minor() == 1 && !isSemver('1.0') && semver('1.0.0+a') == semver('1.0.0+b')",
        "format.dns1123Label().validate('Bad').hasValue() && !format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && !format.named('nothing').hasValue()",
    ] {
        let program =
            Program::compile(text, &env, Some(&Type::Bool)).unwrap_or_else(|why| panic!("{text}\n{why}"));
        let run = program.run(&[("self", Value::of_json(&value, &decl).expect("an object"))], 1_000_000);
        assert!(matches!(run.value, Ok(Value::Bool(true))), "{text}: {:?}", run.value);
    }
}

#[test]
fn what_is_wrong_is_told_where_it_is() {
    let (env, ..) = sample();
    for (text, wanted) in [
        (
            "self = 42",
            "ERROR: <input>:1:6: Syntax error: token recognition error at: '='\n | self = 42\n | .....^",
        ),
        ("1 +\n  +", "ERROR: <input>:2:3: Syntax error: mismatched input '+'"),
        ("self.missing", "ERROR: <input>:1:5: undefined field 'missing'"),
        ("nothing == 1", "undeclared reference to 'nothing' (in container '')"),
        ("self.frob()", "undeclared reference to 'frob' (in container '')"),
        ("self.int + self.text", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("self.text.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("self.int && true", "expected type 'bool' but found 'int'"),
        ("self.int.x", "type 'int' does not support field selection"),
        (
            "self.int.all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("duration('1d')", "invalid duration argument"),
        ("'a'.matches('(')", "invalid matches argument"),
        ("has(self)", "invalid argument to has() macro"),
        ("[1].map(1, 2)", "argument is not an identifier"),
        ("for", "reserved identifier: for"),
        ("authorizer.path('/')", "undeclared reference to 'authorizer'"),
        ("self.any.thing", "undefined field 'thing'"),
        ("Sample{a: 1}", "undeclared reference to 'Sample'"),
        ("'abc", "Syntax error: token recognition error at: ''abc'"),
        ("99999999999999999999", "invalid int literal"),
    ] {
        let why = Program::compile(text, &env, None).expect_err(text).to_string();
        assert!(why.contains(wanted), "{text}: {why}");
    }
    let why = Program::compile("self.int", &env, Some(&Type::Bool)).expect_err("no bool").to_string();
    assert_eq!(why, "must evaluate to bool, not int");
}

#[test]
fn what_fails_while_running_is_told() {
    let (env, decl, value) = sample();
    for (text, wanted) in [
        ("1 / (self.int - 5) == 0", "division by zero"),
        ("1 % (self.int - 5) == 0", "modulus by zero"),
        ("9223372036854775807 + self.int == 0", "integer overflow"),
        ("self.set[7] == ''", "index out of bounds: 7"),
        ("self.map['six'] == 6", "no such key: six"),
        ("self.maybe == ''", "no such key: maybe"),
        ("self.port + 1 == 81", "no such overload"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("[1].slice(1, 0) == []", "cannot slice(1, 0), start index must be less than or equal to end index"),
        ("'a'.substring(2) == ''", "index out of range: 2"),
        ("ip(self.text).family() == 4", "IP Address \"Grüezi\" parse error during conversion from string"),
        ("{'a': 1, self.text.replace('Grüezi', 'a'): 2}.size() == 1", "already exists"),
        ("self.set.map(x, int(x)).max() == 1", "strconv.ParseInt: parsing \"a\": invalid syntax"),
    ] {
        let program =
            Program::compile(text, &env, Some(&Type::Bool)).unwrap_or_else(|why| panic!("{text}\n{why}"));
        let run = program.run(&[("self", Value::of_json(&value, &decl).expect("an object"))], 1_000_000);
        let why = run.value.expect_err(text).to_string();
        assert!(why.contains(wanted), "{text}: {why}");
    }
}
