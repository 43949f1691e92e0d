//! Tables of cases, most of them facts from the tests of upstream.
