"""The frontier's points over seeds."""


def test_means_are_over_the_seeds_of_one_setting(script):
    points = [
        {"name": "tau 1", "bytes": 100, "test_error_percent": 2.0},
        {"name": "tau 2", "bytes": 50, "test_error_percent": 3.0},
        {"name": "tau 1", "bytes": 300, "test_error_percent": 1.0},
    ]
    figure = script("frontier.figure")
    assert dict(figure.by_settings(points)) == {"tau 1": (200, 1.5), "tau 2": (50, 3.0)}
    beaten = {"name": "tau 3", "bytes": 60, "test_error_percent": 3.1}
    assert figure.front([*points, beaten]) == [(50, 3.0), (200, 1.5)]
