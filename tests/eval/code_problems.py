"""Problems of our own in the columns of HumanEval, MBPP, BigCodeBench, LiveCodeBench, a wrong solution beside each."""

import base64
import json
import pickle
import zlib

HUMANEVAL = [
    {
        "task_id": "Own/0",
        "prompt": 'from typing import List\n\n\ndef longest_run(values: List[int]) -> int:\n    """Length of the '
        'longest run of equal neighbours.\n    >>> longest_run([1, 1, 2])\n    2\n    """\n',
        "entry_point": "longest_run",
        "canonical_solution": "    best = count = 0\n    last = None\n    for value in values:\n"
        "        count = count + 1 if value == last else 1\n        last = value\n"
        "        best = max(best, count)\n    return best\n",
        "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 1, 2]) == 2\n"
        "    assert candidate([]) == 0\n    assert candidate([3, 3, 3, 1, 1]) == 3\n    assert candidate([5]) == 1\n",
        "wrong": "    return len(values)\n",
    },
    {
        "task_id": "Own/1",  # the test calls a helper that the prompt gives, as HumanEval/32 does
        "prompt": 'import math\n\n\ndef poly(cs: list, x: float):\n    """Value of the polynomial at x."""\n'
        "    return sum(c * math.pow(x, i) for i, c in enumerate(cs))\n\n\ndef root(cs: list):\n"
        '    """A zero of a line, the polynomial of two coefficients.\n    >>> root([2, 1])\n    -2.0\n    """\n',
        "entry_point": "root",
        "canonical_solution": "    return -cs[0] / cs[1]\n",
        "test": "def check(candidate):\n    import copy, random\n    rng = random.Random(1)\n    for _ in range(20):\n"
        "        cs = [rng.randint(-9, 9), rng.randint(1, 9)]\n"
        "        assert math.fabs(poly(cs, candidate(copy.deepcopy(cs)))) < 1e-6\n",
        "wrong": "    return cs[0] / cs[1]\n",
    },
    {
        "task_id": "Own/2",
        "prompt": 'def twice(text, times=2):\n    """Repeat a text; ValueError for a negative number."""\n',
        "entry_point": "twice",
        "canonical_solution": "    if times < 0:\n        raise ValueError('negative')\n    return text * times\n",
        "test": "def check(candidate):\n    assert candidate('ab') == 'abab', 'plain'\n"
        "    assert candidate(text='a', times=3) == 'aaa'\n    try:\n        candidate('a', -1)\n        assert False\n"
        "    except ValueError:\n        pass\n",
        "wrong": "    return text * times\n",
    },
]
PLUS = [  # the layout of the + versions: arrays of inputs and results, floats compared by numpy
    {
        **HUMANEVAL[1],
        "test": "import numpy as np\n\ndef assertion(out, exp, atol):\n    exact_match = out == exp\n"
        "    if atol == 0 and isinstance(exp, float):\n        atol = 1e-6\n    if not exact_match and atol != 0:\n"
        "        np.testing.assert_allclose(out, exp, atol=atol)\n    else:\n        assert exact_match\n\n"
        "def check(candidate):\n    inputs = [[[2, 1]], [[3, 2]], [[0, 7]]]\n    results = [-2.0, -1.5, 0.0]\n"
        "    for inp, exp in zip(inputs, results):\n        assertion(candidate(*inp), exp, 0)\n",
    }
]
MBPP = [
    {
        "task_id": 1,
        "text": "Write a function to find the elements that two tuples share.",
        "code": "def shared(a, b):\r\n  return tuple(sorted(set(a) & set(b)))",
        "test_list": ["assert shared((3, 4, 5), (5, 7, 4)) == (4, 5)", "assert set(shared((1, 2), (3,))) == set()"],
        "test_setup_code": "",
        "challenge_test_list": ["assert shared((2, 2), (2, 2)) == (2,)"],
        "wrong": "def shared(a, b):\n  return tuple(a)",
    },
    {
        "task_id": 2,  # the test makes objects of the program's own classes
        "text": "Write a function to find the depth of a binary tree.",
        "code": "class Node:\n  def __init__(self, data):\n    self.data, self.left, self.right = data, None, None\n"
        "def depth(node):\n  return 0 if node is None else 1 + max(depth(node.left), depth(node.right))",
        "test_list": ["assert (depth(root)) == 3", "assert depth(root.left) == 2", "assert depth(None) == 0"],
        "test_setup_code": "root = Node(1)\r\nroot.left = Node(2)\r\nroot.left.right = Node(3)",
        "challenge_test_list": [],
        "wrong": "class Node:\n  def __init__(self, data):\n    self.data, self.left, self.right = data, None, None\n"
        "def depth(node): return 3",
    },
    {
        "task_id": 3,  # in place, by a key function, and a lazy result
        "text": "Write a function that sorts pairs in place by a key and gives an iterator over the firsts.",
        "code": "def order(pairs, key):\n  pairs.sort(key=key)\n  return (p[0] for p in pairs)",
        "test_list": [
            "pairs = [(1, 9), (2, 3)]\nassert list(order(pairs, key=lambda p: p[1])) == [2, 1]\n"
            "assert pairs == [(2, 3), (1, 9)]"
        ],
        "test_setup_code": "",
        "challenge_test_list": [],
        "wrong": "def order(pairs, key):\n  return (p[0] for p in sorted(pairs, key=key))",
    },
]
SANITIZED = [
    {
        "source_file": "own",
        "task_id": 4,
        "prompt": "Write a python function to find the area of a circle.",
        "code": "import math\ndef area(r):\n  return math.pi * r ** 2",
        "test_imports": ["import math"],
        "test_list": ["assert math.isclose(area(2), 12.566370614359172, rel_tol=0.001)", "assert area(0) == 0"],
        "wrong": "def area(r):\n  return 3 * r ** 2",
    }
]
BIGCODEBENCH = [
    {
        "task_id": "Own/0",
        "complete_prompt": "import json\nimport os\n\ndef task_func(path):\n    '''Number of keys of the file.'''\n",
        "instruct_prompt": "Count the keys of a JSON file.\nYou should write self-contained code starting with:\n```\n"
        "import json\nimport os\ndef task_func(path):\n```",
        "code_prompt": "import json\nimport os\ndef task_func(path):\n",
        "canonical_solution": "    if not os.path.exists(path):\n        raise FileNotFoundError(path)\n"
        "    with open(path) as file:\n        return len(json.load(file))\n",
        "test": "import unittest\nfrom unittest.mock import patch, mock_open\nclass TestCases(unittest.TestCase):\n"
        "    @patch('os.path.exists', return_value=True)\n"
        "    def test_mocked(self, _):\n"
        "        with patch('builtins.open', mock_open(read_data='{\"a\": 1, \"b\": 2}')):\n"
        "            self.assertEqual(task_func('x.json'), 2)\n"
        "    def test_written(self):\n        with open('y.json', 'w') as file:\n            file.write('{}')\n"
        "        self.assertEqual(task_func('y.json'), 0)\n"
        "    def test_absent(self):\n"
        "        with self.assertRaises(FileNotFoundError):\n            task_func('nothing')\n",
        "entry_point": "task_func",
        "doc_struct": "{}",
        "libs": "['json', 'os']",
        "wrong": "    return 2\n",
    }
]


def cases(kind, *pairs):
    return [{"input": given, "output": expected, "testtype": kind} for given, expected in pairs]


def published(tests):
    """As LiveCodeBench publishes its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


LIVECODEBENCH = [
    {
        "question_title": "Halves",
        "question_content": "Given n lines with a number each, print the half of every one.",
        "platform": "atcoder",
        "question_id": "own001_a",
        "contest_id": "own001",
        "contest_date": "2024-06-30T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases("stdin", ("2\n4\n5\n", "2.0\n2.5\n"))),
        "private_test_cases": published(cases("stdin", ("1\n-3\n", "-1.50"), ("0\n", "\n"))),
        "metadata": "{}",
        "code": "def main():\n    for _ in range(int(input())):\n        print(int(input()) / 2)\n\n\n"
        "if __name__ == '__main__':\n    main()\n",
        "wrong": "for _ in range(int(input())):\n    print(int(input()) // 2)\n",
    },
    {
        "question_title": "Pairs of a sum",
        "question_content": "Give the pairs of numbers that add up to k, and whether there are any.",
        "platform": "leetcode",
        "question_id": "3001",
        "contest_id": "own-weekly-1",
        "contest_date": "2024-08-03T00:00:00",
        "starter_code": "class Solution:\n    def pairsOf(self, nums: List[int], k: int) -> List[List[int]]:\n        ",
        "difficulty": "hard",
        "public_test_cases": json.dumps(cases("functional", ("[1, 2, 3]\n4", "[[1, 3]]"))),
        "private_test_cases": published(cases("functional", ("[]\n0", "[]"), ("[2, 2]\n4", "[[2, 2]]"))),
        "metadata": '{"func_name": "pairsOf"}',
        "code": "class Solution:\n    def pairsOf(self, nums: List[int], k: int) -> List[List[int]]:\n"
        "        return tuple([a, b] for a, b in combinations(nums, 2) if a + b == k)\n",
        "wrong": "class Solution:\n    def pairsOf(self, nums, k):\n        return [[1, 3]]\n",
    },
]
