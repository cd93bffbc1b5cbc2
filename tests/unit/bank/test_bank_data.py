"""The data set, read exactly."""

from play.purchases import expect, read_purchases


def test_all_purchases():
    """The file holds what its authors say."""
    purchases = read_purchases()
    expected = expect(purchases)
    assert expected.customers == 23_570
    assert (expected.purchases, expected.worthless) == (69_659 - 80, 80)
    assert expected.cents == 250_031_563
    everything = [p for several in purchases.values() for p in several]
    assert len({p.line for p in everything}) == 69_659
    assert max(p.cents for p in everything) == 128_601
    assert str(min(p.day for p in everything)) == "1997-01-01"
    assert str(max(p.day for p in everything)) == "1998-06-30"
    assert sum(expected.by_month.values()) == expected.cents
    assert sum(expected.by_customer.values()) == expected.cents


def test_every_tenth_customer():
    """Every n-th customer comes with all their purchases."""
    everyone, some = read_purchases(), read_purchases(every=10)
    assert len(some) == 2_357
    assert all(some[customer] == everyone[customer] for customer in some)
