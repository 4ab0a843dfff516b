#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "capi_calls.hpp"
#include "fuzz_input.hpp"
#include "gguf_builder.hpp"
#include "session_edits.hpp"

// Writes the seeds of the fuzz targets: write_corpus FOLDER. Findings that were mended lie beside them in the committed
// corpora, and so do fuzz_gguf's seeds, of which model.gguf is what `write_tiny_model FILE smallest` wrote.
// write_corpus --check FOLDER says whether the committed seeds are those that it writes.
namespace {

using fuzz::Output;

struct Seed {
  std::string name;  // of the file below the folder
  std::string bytes;
};

/// Three parts, or one and nothing.
void add_split(std::vector<Seed>& seeds) {
  std::vector<gguf::Builder> parts(3);
  parts[0].add_string("general.architecture", "toy");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].scalar("split.no", gguf::u16, static_cast<std::uint16_t>(i));
    parts[i].scalar("split.count", gguf::u16, std::uint16_t{3});
    parts[i].scalar("split.tensors.count", gguf::i32, std::int32_t{4});
    parts[i].add_floats("tensor" + std::to_string(i), {2}, {1, 2});
  }
  parts[1].add_floats("another", {2}, {3, 4});
  for (std::size_t opened = 0; opened < parts.size(); ++opened) {
    Output out;
    out.byte(opened);
    for (const gguf::Builder& part : parts) out.text(part.build().bytes, 2);
    seeds.push_back({"fuzz_split/opened_by_part_" + std::to_string(opened + 1), out.bytes()});
  }
  seeds.push_back({"fuzz_split/others_missing", Output().byte(0).text(parts[0].build().bytes, 2).bytes()});
}

void add_sessions(std::vector<Seed>& seeds) {
  const auto begin = [](std::size_t base) { return Output().byte(base).byte(0); };
  constexpr const char* names[] = {"empty", "with_logits", "rewound", "with_media", "other_model"};
  for (std::size_t base = 0; base < fuzz::bases; ++base) {
    seeds.push_back({std::string("fuzz_session/") + names[base], begin(base).bytes()});
    seeds.push_back({std::string("fuzz_session/") + names[base] + "_longer",
                     begin(base).byte(fuzz::insert_block).byte(fuzz::anywhere).number(64, 2).byte(0).byte(0).bytes()});
    seeds.push_back({std::string("fuzz_session/") + names[base] + "_cut",
                     begin(base).byte(fuzz::cut).byte(fuzz::anywhere).number(64, 2).bytes()});
  }
  // Each word of the header, and of what follows it, one greater: which is what hostile() makes of 14.
  for (std::size_t word = 0; word < 16; ++word) {
    const Output out =
        begin(fuzz::with_media).byte(fuzz::set_8_bytes).byte(fuzz::in_header).number(4 * word, 2).byte(14);
    seeds.push_back({"fuzz_session/word_" + std::to_string(word), out.bytes()});
  }
  // What is said, and keys and values, in bits.
  for (const std::size_t range : {fuzz::anywhere, fuzz::at_end}) {
    Output out = begin(fuzz::with_media);
    for (std::size_t i = 0; i < 16; ++i) out.byte(fuzz::flip_bit).byte(range).number(40 + 11 * i, 2).byte(i);
    seeds.push_back(
        {std::string("fuzz_session/bits_") + (range == fuzz::anywhere ? "anywhere" : "at_end"), out.bytes()});
  }
  seeds.push_back({"fuzz_session/wrong_checksum",
                   Output().byte(1).byte(1).byte(fuzz::flip_bit).byte(fuzz::at_end).number(0, 2).byte(0).bytes()});
}

void add_texts(std::vector<Seed>& seeds) {
  const std::string typed[] = {
      "hello world",
      "<start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n<bos>",
      "<start_of_<start_of_turn>turn> \u2581<|turn> <start_of_image><\xE2\x96",
      "caf\xC3\xA9 \xFF\xC0\x80 \xED\xA0\x80 \xF0\x9F\x98\x80 <0x41><unk><pad>",
  };
  for (std::size_t kind = 0; kind < 3; ++kind) {
    for (std::size_t i = 0; i < std::size(typed); ++i) {
      Output out;
      out.byte(kind).byte(2).byte(2).byte(0);                         // the vocabulary, and two cuts
      out.text(typed[i]).byte(2).text("<end_of_turn>").text("orld");  // a stream and its stop strings
      out.byte(3).byte(0).text("Be kind.").byte(1).text(typed[i]).byte(2).text(" " + typed[i] + "\n").byte(1);  // turns
      out.rest(typed[i]);
      seeds.push_back({"fuzz_text/text_" + std::to_string(kind) + std::to_string(i), out.bytes()});
    }
  }
}

/// Arguments that are all good are zeros.
Output& zeros(Output& out, std::size_t count) {
  for (; count > 0; --count) out.byte(0);
  return out;
}

Output& put_tokens(Output& out, std::initializer_list<std::size_t> ids) {
  out.byte(0).byte(ids.size());
  for (const std::size_t id : ids) out.number(id, 2);
  return out;
}

void add_calls(std::vector<Seed>& seeds) {
  constexpr std::size_t arguments = 8;
  for (std::size_t call = 0; call < fuzz::calls; ++call) {
    Output good;
    zeros(good.byte(call), arguments + 1);
    seeds.push_back({"fuzz_capi/call_" + std::to_string(call) + "_good", good.bytes()});
    Output bad;  // one argument after the other
    for (std::size_t i = 0; i < arguments; ++i) {
      zeros(bad.byte(call), i).byte(15);
      zeros(bad, arguments - i);
    }
    seeds.push_back({"fuzz_capi/call_" + std::to_string(call) + "_bad", bad.bytes()});
  }
  for (std::size_t callback = 0; callback < fuzz::callbacks; ++callback) {
    Output out;
    out.byte(fuzz::call_prefill).byte(0).byte(0);
    put_tokens(out, {2, 270, 271, 272, 273, 270, 271, 272});
    out.byte(fuzz::call_save).byte(0).byte(0).byte(0).byte(0);
    out.byte(fuzz::call_restore).byte(0).byte(0).byte(0).byte(0).byte(0).byte(1);
    out.byte(fuzz::call_fork).byte(0).byte(0).byte(1).byte(2);
    out.byte(fuzz::call_rewind).byte(0).byte(2).byte(3);
    out.byte(fuzz::call_logits).byte(0).byte(0).byte(1);
    out.byte(fuzz::call_generate).byte(0).byte(callback % 3).byte(callback);
    put_tokens(out, {2, 270, 271, 272, 273, 270, 271, 272});
    out.byte(0);                    // no turns
    zeros(out, 7).byte(7).byte(0);  // sampling: defaults, seed 7
    out.byte(1).text("or").byte(0).byte(0).byte(0).byte(15).byte(callback % 3).byte(0).byte(0);
    seeds.push_back({"fuzz_capi/session_" + std::to_string(callback), out.bytes()});
    Output turns;
    turns.byte(fuzz::call_generate).byte(0).byte(0).byte(callback).byte(0).byte(0).byte(1);
    turns.byte(2).byte(0).text("hello").byte(0).byte(0).byte(0).text("world").byte(0).byte(0).byte(0);
    turns.byte(0).text("hell").byte(0).byte(0);
    zeros(turns, 7).byte(3).byte(0).byte(0).byte(0).byte(0).byte(0).byte(12).byte(1).byte(0).byte(0);
    seeds.push_back({"fuzz_capi/turns_" + std::to_string(callback), turns.bytes()});
  }
}

/// A picture, a sound and a recorded sound, and turns that have them.
void add_media(std::vector<Seed>& seeds) {
  for (std::size_t callback = 0; callback < fuzz::progress_callbacks; ++callback) {
    Output out;
    const bool stops = callback == fuzz::stop_at_first || callback == fuzz::stop_at_second;
    out.byte(fuzz::call_encode_picture).byte(0).byte(0).byte(callback).byte(0);
    out.byte(9).byte(callback).byte(callback % 3).byte(1).byte(callback % 4);  // width, height, format, stride
    zeros(out, 5).byte(11).byte(0).byte(0);                                    // what may be odd, the colours, a NULL
    if (!stops) out.byte(0);                                                   // where it is put
    out.byte(fuzz::call_encode_sound).byte(0).byte(0).byte(stops ? 0 : callback).byte(0);
    out.byte(5).byte(200).byte(0).byte(0).byte(1);
    out.byte(fuzz::call_sound_new).byte(0).byte(0).byte(0).byte(0);
    out.byte(fuzz::call_sound_feed).byte(0).byte(0).byte(7).byte(100).byte(0).byte(0);
    out.byte(fuzz::call_sound_cancel).byte(0);
    out.byte(fuzz::call_sound_finish).byte(0).byte(0).byte(0).byte(2);
    const auto put_turn = [&](std::size_t call) {
      out.byte(call).byte(0).byte(0);
      if (call == fuzz::call_generate) out.byte(fuzz::go_on).byte(0).byte(0).byte(1);
      out.byte(0).byte(0).text("").byte(0).byte(3);  // one turn, of three parts
      out.byte(1).byte(3).text("hello").byte(0).byte(callback % 3).byte(0);
    };
    put_turn(fuzz::call_advance_to_turns);
    zeros(out, 2);
    out.byte(fuzz::call_medium_free).byte(callback % 3);
    put_turn(fuzz::call_generate);
    zeros(out, 24);
    seeds.push_back({"fuzz_capi/media_" + std::to_string(callback), out.bytes()});
  }
}

std::vector<Seed> all_seeds() {
  std::vector<Seed> seeds;
  add_split(seeds);
  add_sessions(seeds);
  add_texts(seeds);
  add_calls(seeds);
  add_media(seeds);
  return seeds;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc == 3 && std::string_view(argv[1]) == "--check";
  if (argc != 2 && !check) {
    std::fprintf(stderr, "usage: %s [--check] FOLDER\n", argv[0]);
    return 2;
  }
  const std::filesystem::path folder = argv[argc - 1];
  int failed = 0;
  const std::vector<Seed> seeds = all_seeds();
  for (const Seed& seed : seeds) {
    const std::filesystem::path path = folder / seed.name;
    if (!check) {
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path, std::ios::binary) << seed.bytes;
    }
    if (bytes_of(path) != seed.bytes) {
      ++failed;
      std::printf("FAIL  %s is not what write_corpus writes\n", path.c_str());
    }
  }
  std::printf("%zu passed, %d failed\n", seeds.size() - static_cast<std::size_t>(failed), failed);
  return failed == 0 ? 0 : 1;
}
