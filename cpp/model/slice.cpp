#include "model/slice.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

namespace gemlet {
namespace {

constexpr int max_layers = 1024;

[[noreturn]] void fail(const std::string& what) { throw Error(Error::Kind::argument, "slice: " + what); }

std::string to_text(double value) {
  char text[32];
  return {text, std::to_chars(std::begin(text), std::end(text), value).ptr};
}

// parsing

[[noreturn]] void fail_to_parse(std::string_view text, const std::string& expected) {
  fail("found \"" + std::string(text) + "\", expected " + expected);
}

template <typename Number>
Number parse_number(std::string_view text, const std::string& expected) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) fail_to_parse(text, expected);
  return value;
}

/// Calls visit(piece) for the pieces between separators.
template <typename Visit>
void split(std::string_view text, char separator, const Visit& visit) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    visit(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

void parse_widths(std::string_view text, Slice& slice) {
  if (text.find('.') != std::string_view::npos) {
    slice.ffn_share = parse_number<double>(text, "a share of the feed-forward width, such as 0.5");
    return;
  }
  split(text, ',', [&](std::string_view piece) {
    const std::string expected = "feed-forward widths, such as 8192, or 8192x20,16384x10 for 30 layers";
    const std::size_t times = piece.find('x');
    const int width = parse_number<int>(piece.substr(0, times), expected);
    const int count = times == std::string_view::npos ? 1 : parse_number<int>(piece.substr(times + 1), expected);
    if (count < 1 || count > max_layers) fail_to_parse(piece, expected);
    slice.ffn_widths.insert(slice.ffn_widths.end(), static_cast<std::size_t>(count), width);
  });
}

void parse_layers(std::string_view text, Slice& slice) {
  split(text, ',', [&](std::string_view piece) {
    const std::string expected = "layers to drop, such as 20-24 or 3,7";
    const std::size_t dash = piece.find('-');
    const int first = parse_number<int>(piece.substr(0, dash), expected);
    const int last = dash == std::string_view::npos ? first : parse_number<int>(piece.substr(dash + 1), expected);
    if (first < 0 || last < first || last >= max_layers) fail_to_parse(piece, expected);
    for (int layer = first; layer <= last; ++layer) slice.dropped_layers.push_back(layer);
  });
}

// applying

void check_dropped(const Slice& slice, std::span<const SliceableLayer> layers) {
  for (const int dropped : slice.dropped_layers) {
    const bool known = std::any_of(layers.begin(), layers.end(), [&](const SliceableLayer& layer) {
      return static_cast<long>(layer.index) == dropped;
    });
    if (!known) {
      fail("layer " + std::to_string(dropped) + " is to be dropped, the model has layers " +
           std::to_string(layers.front().index) + " to " + std::to_string(layers.back().index));
    }
  }
}

/// `position` counts the layers that are kept.
double asked_width(const Slice& slice, const SliceableLayer& layer, std::size_t position) {
  if (slice.ffn_widths.empty()) return slice.ffn_share * static_cast<double>(layer.width);
  return slice.ffn_widths.size() == 1 ? slice.ffn_widths[0] : slice.ffn_widths[position];
}

std::size_t check_width(const SliceableLayer& layer, double asked) {
  constexpr double rounding = 1e-6;  // of a share that no binary fraction is equal to
  const auto whole = static_cast<long>(layer.width);
  const auto block = static_cast<long>(layer.block);
  const long width = std::lround(asked);
  const bool fits = width == whole || (width >= 1 && width < whole && width % block == 0);
  if (fits && std::abs(asked - static_cast<double>(width)) < rounding) return static_cast<std::size_t>(width);
  const long below = static_cast<long>(asked) / block * block;
  const long above = below + block;
  std::string expected =
      "expected a multiple of " + std::to_string(block) + " up to the whole width of " + std::to_string(whole);
  if (below >= block && above <= whole) {
    expected += ", such as " + std::to_string(below) + " or " + std::to_string(above);
  }
  fail("layer " + std::to_string(layer.index) + ": a feed-forward width of " + to_text(asked) + " was asked for, " +
       expected);
}

}  // namespace

Slice Slice::parse(std::string_view text) {
  // google/gemma3n-slicing-configs on Hugging Face, "Config for official E2B Model", as Google's MatFormer Lab cuts it:
  // FFN 2048 * 4 of 2048 * 8, layers 20 to 24 of 35 left out. Those are the first block of the KV-shared layers.
  if (text == "e2b") return {.ffn_share = 0.5, .dropped_layers = {20, 21, 22, 23, 24}, .of_layers = 35};
  Slice slice;
  if (text.find('=') == std::string_view::npos) {
    parse_widths(text, slice);
    return slice;
  }
  split(text, ':', [&](std::string_view part) {
    if (part.starts_with("ffn=")) {
      parse_widths(part.substr(4), slice);
    } else if (part.starts_with("drop=")) {
      parse_layers(part.substr(5), slice);
    } else {
      fail_to_parse(part, "\"e2b\", a share, a width, or ffn=WIDTHS:drop=LAYERS");
    }
  });
  return slice;
}

std::vector<KeptLayer> apply_slice(const Slice& slice, std::span<const SliceableLayer> layers) {
  if (slice.of_layers != 0 && static_cast<std::size_t>(slice.of_layers) != layers.size()) {
    fail("it is one of a model of " + std::to_string(slice.of_layers) + " layers, this one has " +
         std::to_string(layers.size()));
  }
  if (!(slice.ffn_share > 0 && slice.ffn_share <= 1)) {
    fail("the share of the feed-forward width is " + to_text(slice.ffn_share) + ", expected more than 0 and at most 1");
  }
  check_dropped(slice, layers);
  const auto is_dropped = [&](std::size_t index) {
    return std::find(slice.dropped_layers.begin(), slice.dropped_layers.end(), static_cast<int>(index)) !=
           slice.dropped_layers.end();
  };
  std::vector<KeptLayer> kept;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!is_dropped(layers[i].index)) kept.push_back({i, 0});
  }
  if (kept.empty()) fail("all layers are dropped, expected to keep one");
  if (slice.ffn_widths.size() > 1 && slice.ffn_widths.size() != kept.size()) {
    fail("there are " + std::to_string(slice.ffn_widths.size()) + " feed-forward widths, expected one, or " +
         std::to_string(kept.size()) + ": one for each layer that is kept");
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const SliceableLayer& layer = layers[kept[i].place];
    if (is_dropped(layer.kv_layer)) {
      fail("layer " + std::to_string(layer.kv_layer) + " cannot be dropped: layer " + std::to_string(layer.index) +
           " reads its keys and values");
    }
    kept[i].width = check_width(layer, asked_width(slice, layer, i));
  }
  return kept;
}

}  // namespace gemlet
