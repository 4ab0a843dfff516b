#include <string>
#include <vector>

#include "check.hpp"
#include "gemlet/error.hpp"
#include "text/text_stream.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::TextStream;

namespace {

using Strings = std::vector<std::string>;

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

/// Pushes `bytes` in pieces of the given sizes, the last one repeating.
Outcome run(const Strings& stop, std::string_view bytes, const std::vector<std::size_t>& sizes) {
  TextStream stream(stop);
  Outcome outcome{"", false};
  for (std::size_t i = 0; !bytes.empty(); ++i) {
    const std::size_t size = std::min(bytes.size(), sizes[std::min(i, sizes.size() - 1)]);
    outcome.text += stream.push(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  outcome.stopped = stream.stopped();
  outcome.text += stream.finish();
  return outcome;
}

}  // namespace

TEST("text comes in whole characters") {
  TextStream stream({});
  CHECK(stream.push("a\xF0\x9F") == "a");
  CHECK(stream.push("\x98").empty());
  CHECK(stream.push("\x80"
                    "b\xC3") ==
        "\U0001F600"
        "b");
  CHECK(stream.finish() == "\uFFFD");
  CHECK(stream.finish().empty());
}

TEST("malformed bytes are replaced as Python's incremental decoder does") {
  // codecs.getincrementaldecoder("utf-8")("replace"), CPython 3.11.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\xFF", "\uFFFD"},
      {"\x80\x80", "\uFFFD\uFFFD"},
      {"\xE2\x96x", "\uFFFDx"},
      {"\xE2\xE2\x96\x81", "\uFFFD\u2581"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
  };
  for (const auto& [bytes, expected] : cases) {
    for (const std::size_t size : {1, 2, 3, 100}) CHECK((run({}, bytes, {size}) == Outcome{expected, false}));
  }
}

TEST("a stop string ends the text wherever the tokens are cut") {
  for (const std::size_t size : {1, 2, 3, 5, 100}) {
    CHECK((run({"END"}, "one ENENDtwo", {size}) == Outcome{"one EN", true}));
    CHECK((run({"END"}, "one EN", {size}) == Outcome{"one EN", false}));
    CHECK((run({"\u00e9"}, "caf\xC3\xA8 caf\xC3\xA9!", {size}) == Outcome{"caf\u00e8 caf", true}));
    CHECK((run({"\uFFFD"}, "a\xE2\x96z", {size}) == Outcome{"a", true}));
    CHECK((run({"x"}, "x", {size}) == Outcome{"", true}));
  }
}

TEST("of several stop strings the one that is complete first counts, then the longest") {
  for (const std::size_t size : {1, 2, 3, 100}) {
    CHECK((run({"abcd", "bc"}, "xabcd", {size}) == Outcome{"xa", true}));
    CHECK((run({"c", "abc", "bc"}, "xabc", {size}) == Outcome{"x", true}));
    CHECK((run({"aab", "b"}, "aaab", {size}) == Outcome{"a", true}));
  }
}

TEST("nothing is held back longer than it may belong to a stop string") {
  TextStream stream({"abab"});
  CHECK(stream.push("xab") == "x");
  CHECK(stream.push("a").empty());
  CHECK(stream.push("c") == "abac");
  CHECK(stream.push("aba").empty());
  CHECK(!stream.stopped());
  CHECK(stream.finish() == "aba");
}

TEST("after a stop nothing more comes") {
  TextStream stream({"b"});
  CHECK(stream.push("abc") == "a");
  CHECK(stream.stopped());
  CHECK(stream.push("abc").empty() && stream.finish().empty());
  TextStream last({"\uFFFD"});
  CHECK(last.push("a\xC3") == "a");
  CHECK(last.finish().empty() && last.stopped());
}

TEST("random texts give the same whatever the cuts, and what a plain search gives") {
  tiny::Random random(3);
  const auto word = [&](std::uint64_t least, std::uint64_t most) {
    std::string text;
    for (std::uint64_t i = least + random.below(most); i > 0; --i) text += static_cast<char>('a' + random.below(2));
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    Strings stop;
    for (std::uint64_t i = random.below(4); i > 0; --i) stop.push_back(word(1, 5));
    const std::string text = word(0, 24);
    Outcome expected{text, false};
    for (std::size_t end = 1; end <= text.size() && !expected.stopped; ++end) {
      const std::string_view so_far = std::string_view(text).substr(0, end);
      std::size_t longest = 0;
      for (const std::string& s : stop) longest = so_far.ends_with(s) ? std::max(longest, s.size()) : longest;
      if (longest > 0) expected = {text.substr(0, end - longest), true};
    }
    std::vector<std::size_t> sizes;
    for (int i = 0; i < 30; ++i) sizes.push_back(1 + random.below(5));
    CHECK(run(stop, text, sizes) == expected);
    CHECK((run(stop, text, {100}) == expected));
  }
}

TEST("a stop string must be text") {
  for (const std::string& bad : {std::string(), std::string("\xE2\x96"), std::string("\x81x")}) {
    const std::string message = check::throws<gemlet::Error>([&] { TextStream({"ok", bad}); });
    CHECK(message.find("stop string 1") != std::string::npos);
  }
}

TEST("long texts and stop strings take linear time") {
  const std::string near_miss = std::string(100000, 'a') + "b";
  TextStream stream({near_miss});
  std::size_t shown = 0;
  for (int i = 0; i < 1000000; ++i) shown += stream.push("a").size();
  CHECK(shown == 900000);
  CHECK(stream.finish().size() == 100000);
}

int main() { return check::run_tests(); }
